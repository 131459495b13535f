import pytest

from benchmarks.quorum import QUORUM, SELECTED, TARGET, Reached, expected, reached


@pytest.mark.parametrize(
    ("at_least", "drop_out", "chance"),
    [(QUORUM, 0.1, 0.99998), (QUORUM, 0.2, 0.992), (TARGET, 0.2, 0.747), (0, 0.2, 1.0)],
    ids=["quorum at 10 %", "quorum at 20 %", "target at 20 %", "anything"],
)
def test_what_to_expect_is_binomial(at_least: int, drop_out: float, chance: float) -> None:
    assert expected(at_least, drop_out) == pytest.approx(chance, abs=5e-4)


def test_without_drop_out_every_round_reaches_its_target() -> None:
    assert reached(SELECTED, 0.0, rounds=3, seed=0) == Reached(3, 3, 3)


def test_who_drops_out_is_replaced_where_there_is_somebody() -> None:
    rounds, drop_out = 12, 0.35
    alone, replaced = (reached(devices, drop_out, rounds, seed=0) for devices in (SELECTED, 60))
    assert alone.rounds > alone.quorum == rounds
    assert replaced.rounds == replaced.quorum == rounds
    assert replaced.target > alone.target
