import pytest
from pydantic import ValidationError

from broker.contract import Needs
from broker.messages import Presence
from broker.needs import Misfit, Obstacle, find_misfit

PROGRAM = "a" * 64
BIRTH = Presence(
    online=True,
    connection="0" * 16,
    machine="Raspberry Pi 4 Model B Rev 1.4 aarch64",
    cores=4,
    memory_bytes=256_400_000,
    runtimes=("litert",),
    tags=("indoor", "lab"),
    examples=60,
    speeds={PROGRAM: 12.04, "b" * 64: 999.0},
)


@pytest.mark.parametrize(
    ("needs", "obstacle", "why"),
    [
        ({"memory_bytes": 512_000_000}, "memory", "needs 512 MB of memory, has 256 MB"),
        ({"memory_bytes": 256_400_001}, "memory", "needs 257 MB of memory, has 256 MB"),
        ({"cores": 8}, "cores", "needs 8 cores, has 4"),
        (
            {"machine": "x86_64"},
            "machine",
            "needs a machine with 'x86_64', is 'Raspberry Pi 4 Model B Rev 1.4 aarch64'",
        ),
        ({"tags": ["lab", "outdoor", "solar"]}, "tags", "lacks tag outdoor, solar"),
        ({"examples": 1000}, "examples", "holds 60 examples, the task needs 1,000"),
        ({"examples_per_s": 50}, "speed", "trains 12 examples/s, the task needs 50"),
        ({"examples_per_s": 12.1}, "speed", "trains 12 examples/s, the task needs 12.1"),
    ],
)
def test_what_a_device_lacks_is_said_with_figures(needs: dict[str, object], obstacle: str, why: str) -> None:
    assert find_misfit(BIRTH, Needs.model_validate(needs), PROGRAM) == Misfit(Obstacle(obstacle), why)


@pytest.mark.parametrize(
    "needs",
    [
        {},
        {"memory_bytes": 256_400_000, "cores": 4, "machine": "aarch64", "tags": ["indoor"], "examples": 60},
        {"machine": "Pi 4"},
        {"examples_per_s": 12.04},
    ],
    ids=["none", "all but speed", "board", "speed"],
)
def test_who_has_just_enough_fits(needs: dict[str, object]) -> None:
    assert find_misfit(BIRTH, Needs.model_validate(needs), PROGRAM) is None


def test_a_device_without_examples_never_fits() -> None:
    lacking = find_misfit(BIRTH.model_copy(update={"examples": 0}), Needs(), PROGRAM)
    assert lacking == Misfit(Obstacle.EXAMPLES, "holds no examples")


def test_a_device_that_never_trained_with_the_program_is_fast_enough() -> None:
    assert find_misfit(BIRTH, Needs(examples_per_s=1e9), "c" * 64) is None


@pytest.mark.parametrize(
    "needs",
    [
        {"memory": 1},
        {"cores": -1},
        {"examples": 0},
        {"examples_per_s": float("nan")},
        {"tags": "indoor"},
        {"memory_bytes": 1 << 64},
    ],
    ids=["unknown", "negative", "no examples", "no number", "no list", "more than travels"],
)
def test_needs_that_make_no_sense_are_refused(needs: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Needs.model_validate(needs)
