import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest

from broker.layout import Layout
from broker.program import Program
from broker.sealing import SealingKey, context_of, is_sealed
from broker.topics import Topics
from broker.update import DELTA, open_update
from host.children import Child
from tests.edge_agent.small_disk import small_disk

WAIT_S = 60
MEMORY_BYTES = 8 << 30
PROJECT = Path(__file__).parents[2]
LAYOUT = Layout(trainable=((2,),), state=((1,),))
THETA = np.array([1, 2, 3], np.float32)
Json = dict[str, Any]

# A runtime as a user may write it: theta moves by the mean of the inputs, the rest is for the tests.
STEPPER = """
import os
import pathlib
import sys
import numpy as np
from edge_agent.runtimes.base import Trained

class Stepper:
    def load(self, program, layout):
        self.program = program.decode()

    def train(self, theta, examples, settings, optimizer, progress):
        if self.program == "eat":
            bytearray(1 << 50)
        if self.program == "raise":
            raise RuntimeError("first line\\nthe point\\n [[node]] [Op:it]")
        if self.program.startswith("remove "):
            pathlib.Path(self.program[7:]).unlink()
        if self.program.startswith("tear "):
            os.truncate(self.program[5:], 100)
        if self.program == "look up":
            return {}["momentum"]
        progress(0.5)
        rounds = optimizer[0] + 1 if len(optimizer) else np.ones(1)
        new = theta + np.float32(rounds[0]) * examples.x.mean()
        if self.program == "diverge":
            new = new * np.float32(np.nan)
        if self.program == "short":
            new = new[1:]
        print("a library prints")
        metrics = {"loss": (np.float32(len(examples.x)), len(examples.x)), "odd": (float("nan"), 1)}
        return Trained(new, metrics, np.int64(len(examples.x)), [rounds])

    def evaluate(self, theta, examples):
        return {"theta0": (float(theta[0]) * len(examples.x), len(examples.x)),
                "tensorflow": (float("tensorflow" in sys.modules), 1)}
"""


class Trainer:
    """The trainer's process, as the agent would start it."""

    def __init__(self) -> None:
        self._answers: Queue[Json] = Queue()
        self.signs: list[float] = []
        self.child = Child(
            "edge_agent.trainer",
            memory_bytes=MEMORY_BYTES,
            on_message=self._answers.put,
            on_exit=lambda how: self._answers.put({"event": how}),
        )

    def ask(self, request: Json) -> Json:
        return self.ask_for_all(request)[-1]

    def ask_for_all(self, request: Json) -> list[Json]:
        """Its answer, and the speeds that it measured before."""
        self.child.send(request)
        self.signs.clear()
        answers = [self._answers.get(timeout=WAIT_S)]
        while answers[-1]["event"] in {"progress", "measured"}:
            if answers[-1]["event"] == "progress":
                self.signs.append(answers.pop()["progress"])
            answers.append(self._answers.get(timeout=WAIT_S))
        return answers


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """One warm process, in which the user's runtime and those of pyproject.toml are installed."""
    site = tmp_path_factory.mktemp("site")
    (site / "stepper.py").write_text(STEPPER)
    ours = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"][
        "midge.runtimes"
    ]
    info = site / "stepper-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stepper\nVersion: 1.0\n")
    points = {"stepper": "stepper:Stepper", **ours}
    (info / "entry_points.txt").write_text(
        "[midge.runtimes]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        started = Trainer()
    yield started
    started.child.kill()


@pytest.fixture
def request_(tmp_path: Path) -> Json:
    """A training that works; tests change one thing of it."""
    np.savez(tmp_path / "data.npz", x=np.ones((40, 2)) * np.arange(40)[:, None], y=np.arange(40.0))
    (tmp_path / "theta").write_bytes(THETA.tobytes())
    write_program(tmp_path)
    return {
        "verb": "train",
        "data": {"kind": "npz", "path": str(tmp_path / "data.npz")},
        "runtime": "stepper",
        "program": str(tmp_path / "program"),
        "theta": str(tmp_path / "theta"),
        "layout": LAYOUT.digest,
        "contract": {"shape": [2]},
        "settings": {"validation_fraction": 0.25},
        "update": str(tmp_path / "update"),
        "state": str(tmp_path / "state"),
    }


def write_program(folder: Path, body: str = "", **change: Any) -> None:  # noqa: ANN401
    program = Program.model_validate({"layout": LAYOUT, "runtime": "stepper", "body": body} | change)
    (folder / "program").write_bytes(program.to_bytes())


def evaluation(request: Json) -> Json:
    return {key: value for key, value in request.items() if key not in {"update", "state"}} | {
        "verb": "evaluate"
    }


def test_inspect_counts_the_examples(trainer: Trainer, request_: Json) -> None:
    answer = trainer.ask({"verb": "inspect", "data": request_["data"]})
    assert answer == {"event": "inspected", "examples": 40, "shape": [2], "labels": {}}


def test_an_update_that_is_to_be_sealed_is_written_so_that_only_its_key_opens_it(
    trainer: Trainer, request_: Json, tmp_path: Path
) -> None:
    key, context = SealingKey(tmp_path / "sealing.key"), context_of(Topics("lab"), "run-a", 1, "pi-1")
    sealing = {"key": key.public_key, "context": context.decode()}
    assert trainer.ask(request_ | {"sealing": sealing})["event"] == "trained"
    sealed, plain = Path(request_["update"]), tmp_path / "plain"
    assert is_sealed(sealed)
    with sealed.open("rb") as file:
        plain.write_bytes(b"".join(key.open_update(file, context)))
    assert open_update(plain)[0].layout == LAYOUT.digest


def test_a_key_that_is_none_declines_the_round(trainer: Trainer, request_: Json) -> None:
    answer = trainer.ask(request_ | {"sealing": {"key": "00" * 32, "context": "round"}})
    assert (answer["event"], answer["reason"]) == ("failed", "program")
    assert "is no key that anything can be sealed to" in answer["detail"]
    assert not Path(request_["update"]).exists()


def test_training_writes_the_delta_and_tells_sums(trainer: Trainer, request_: Json) -> None:
    answer = trainer.ask(request_)
    header, vectors = open_update(Path(request_["update"]))
    assert header.layout == LAYOUT.digest
    step = vectors[DELTA][0]
    assert step > 0
    assert vectors[DELTA].tolist() == pytest.approx([step] * 3)
    trained, validated = answer["examples"], answer["validation"]["theta0"][1]
    assert trained + validated == 40
    assert validated > 0
    assert answer["event"] == "trained"
    assert answer["metrics"] == {"loss": [trained, trained]}
    assert answer["validation"]["theta0"][0] == pytest.approx((1 + step) * validated)
    assert answer["validation"]["tensorflow"] == [0, 1]
    assert answer["seconds"] >= 0


def test_a_sign_of_life_comes_before_whatever_may_take_long(trainer: Trainer, request_: Json) -> None:
    trainer.ask(request_)
    assert trainer.signs == [0, 1]
    trainer.ask(evaluation(request_))
    assert trainer.signs[0] == 0


def test_each_training_measures_the_speed_once_and_before_it_is_done(
    trainer: Trainer, request_: Json
) -> None:
    for _ in range(2):
        measured, trained = trainer.ask_for_all(request_)
        assert (measured["event"], trained["event"]) == ("measured", "trained")
        assert measured["examples_per_s"] >= trained["examples"] / (trained["seconds"] + 1)
    assert len(trainer.ask_for_all(evaluation(request_))) == 1


def test_evaluation_is_of_the_validation_part_or_of_all_when_there_is_none(
    trainer: Trainer, request_: Json
) -> None:
    part = trainer.ask(evaluation(request_))["metrics"]["theta0"]
    assert 0 < part[1] < 40
    assert part[0] == pytest.approx(part[1] * THETA[0])
    whole = trainer.ask(evaluation(request_) | {"settings": {"validation_fraction": 0}})
    assert whole["metrics"]["theta0"] == [40, 40]


def test_data_is_read_again_when_it_changes(trainer: Trainer, request_: Json, tmp_path: Path) -> None:
    settings = {"settings": {"validation_fraction": 0}}
    assert trainer.ask(evaluation(request_) | settings)["metrics"]["theta0"] == [40, 40]
    np.savez(tmp_path / "data.npz", x=np.ones((7, 2)), y=np.ones(7))
    assert trainer.ask(evaluation(request_) | settings)["metrics"]["theta0"] == [7, 7]


def test_optimizer_state_goes_on_only_when_it_is_kept(trainer: Trainer, request_: Json) -> None:
    def step(**settings: str) -> float:
        assert trainer.ask(request_ | {"settings": settings})["event"] == "trained"
        return float(open_update(Path(request_["update"]))[1][DELTA][0])

    once = step()
    assert not Path(request_["state"]).exists()
    assert [step(optimizer_state="keep") for _ in range(3)] == pytest.approx([once, 2 * once, 3 * once])
    assert step() == once
    whole = Path(request_["state"]).read_bytes()
    for damaged in (b"", b"damaged", bytes(len(whole)), whole[:-40], whole.replace(b"NUMPY", b"MUMPY")):
        Path(request_["state"]).write_bytes(damaged)
        assert step(optimizer_state="keep") == once


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"contract": {"shape": [3]}}, "contract", "the task asks for (3,)"),
        ({"contract": {"shape": [2], "classes": ["a"]}}, "contract", "whole numbers are needed"),
        ({"data": {"kind": "npz", "path": "/nowhere"}}, "data", "/nowhere"),
        ({"runtime": "no-such"}, "program", "program is for runtime 'stepper'"),
        ({"layout": "0" * 64}, "program", "another layout"),
        ({"program": "/nowhere"}, "training-failed", "/nowhere"),
        ({"settings": {"epochs": 0}}, "program", "settings.epochs"),
        ({"verb": "dance"}, "training-failed", "dance"),
        ({"update": "/dev/full/update"}, "training-failed", "Not a directory"),
    ],
)
def test_what_cannot_be_done_is_declined_with_a_reason_and_the_child_goes_on(
    trainer: Trainer, request_: Json, change: Json, reason: str, detail: str
) -> None:
    answer = trainer.ask(request_ | change)
    assert (answer["event"], answer["reason"]) == ("failed", reason)
    assert detail in answer["detail"]
    assert trainer.ask(request_)["event"] == "trained"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("raise", "the point"),
        ("look up", "no 'momentum' is there"),
        ("eat", f"of {MEMORY_BYTES} bytes (trainer_memory_bytes)"),
        ("diverge", "diverged"),
        ("short", "shape (2,), (3,) is needed"),
    ],
)
def test_a_runtime_that_fails_declines_and_writes_no_update(
    trainer: Trainer, request_: Json, tmp_path: Path, body: str, detail: str
) -> None:
    write_program(tmp_path, body)
    answer = trainer.ask(request_)
    assert (answer["event"], answer["reason"]) == ("failed", "training-failed")
    assert detail in answer["detail"]
    assert not (tmp_path / "update").exists()


def test_an_unknown_runtime_a_wrong_program_and_a_short_theta_are_declined(
    trainer: Trainer, request_: Json, tmp_path: Path
) -> None:
    write_program(tmp_path, runtime="no-such")
    answer = trainer.ask(request_ | {"runtime": "no-such"})
    assert answer["reason"] == "runtime"
    assert "keras, litert, stepper" in answer["detail"]
    (tmp_path / "program").write_bytes(b"{}")
    assert trainer.ask(request_)["reason"] == "program"
    write_program(tmp_path)
    (tmp_path / "theta").write_bytes(THETA.tobytes()[:-4])
    answer = trainer.ask(request_)
    assert answer["reason"] == "program"
    assert "theta of 8 bytes" in answer["detail"]


def test_a_setting_that_the_runtime_does_not_know_is_declined_before_it_trains(
    trainer: Trainer, request_: Json, tmp_path: Path
) -> None:
    answer = trainer.ask(request_ | {"settings": {"proximal": 0.1, "clip_norm": 1.0}})
    assert (answer["event"], answer["reason"]) == ("failed", "runtime")
    assert "runtime 'stepper' does not know clip_norm, proximal: " in answer["detail"]
    assert not (tmp_path / "update").exists()
    assert trainer.ask(request_ | {"settings": {"proximal": 0.0}})["event"] == "trained"


@pytest.mark.parametrize("verb", ["remove", "tear"])
def test_data_that_goes_while_it_is_trained_on_costs_the_next_round(
    trainer: Trainer, request_: Json, tmp_path: Path, verb: str
) -> None:
    before = trainer.ask(request_)
    write_program(tmp_path, f"{verb} {tmp_path / 'data.npz'}")
    assert trainer.ask(request_)["examples"] == before["examples"]
    write_program(tmp_path)
    answer = trainer.ask(request_)
    assert (answer["event"], answer["reason"]) == ("failed", "data")
    assert "data.npz" in answer["detail"]
    np.savez(tmp_path / "data.npz", x=np.ones((40, 2)), y=np.ones(40))
    assert trainer.ask(request_)["event"] == "trained"


@pytest.mark.parametrize(
    "kept", [["update"], ["state"], ["update", "state"]], ids=["update", "state", "both"]
)
def test_an_update_or_state_that_finds_no_room_is_declined_for_the_disk_and_leaves_nothing(
    trainer: Trainer, request_: Json, tmp_path: Path, kept: list[str]
) -> None:
    with small_disk(tmp_path / "card", 1 << 20) as disk:
        on_card = {name: str(disk.path / name) for name in kept}
        asked = request_ | on_card | {"settings": {"optimizer_state": "keep"}}
        disk.fill()
        answer = trainer.ask(asked)
        assert (answer["event"], answer["reason"]) == ("failed", "disk")
        assert "No space left" in answer["detail"]
        assert [path.name for path in disk.path.iterdir()] == ["filler"]
        assert not Path(asked["update"]).exists()
        disk.empty()
        assert trainer.ask(asked)["event"] == "trained"
        disk.make_read_only()
        answer = trainer.ask(asked)
        assert (answer["event"], answer["reason"]) == ("failed", "disk")
        assert "Read-only" in answer["detail"]


def test_keras_trains_in_the_child(trainer: Trainer, request_: Json, tmp_path: Path) -> None:
    dense = {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"units": 1, "name": "d"},
        "registered_name": None,
    }
    start = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": [None, 2], "name": "i"},
    }
    model: Json = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [start, dense]},
        "registered_name": "Sequential",
    }
    optimizer = {
        "module": "keras.optimizers",
        "class_name": "SGD",
        "config": {"learning_rate": 1e-4},
        "registered_name": None,
    }
    body = {"format": 1, "model": model, "compile": {"optimizer": optimizer, "loss": "mse"}}
    layout = Layout(trainable=((2, 1), (1,)))
    write_program(tmp_path, json.dumps(body), runtime="keras", layout=layout)
    answer = trainer.ask(request_ | {"runtime": "keras", "layout": layout.digest})
    assert answer["event"] == "trained", answer
    assert set(answer["metrics"]) == set(answer["validation"]) == {"loss"}
    model["config"]["layers"].append(dense | {"class_name": "Lambda"})
    write_program(tmp_path, json.dumps(body), runtime="keras", layout=layout)
    answer = trainer.ask(request_ | {"runtime": "keras", "layout": layout.digest})
    assert answer["reason"] == "program"
    assert "code" in answer["detail"]
