import pytest

from edge_agent.speed import Speedometer

Passed = list[tuple[float, float]]


def speeds(passed: Passed, ended: float, rows: int = 1000) -> list[float | None]:
    """What it says to each (fraction, time) of a training that begins at 100 s, and at the end."""
    meter = Speedometer(rows, 100.0)
    return [*(meter.passed(fraction, now) for fraction, now in passed), meter.ended(ended)]


def test_the_first_second_after_the_first_step_is_what_counts() -> None:
    passed = [(0.01, 130.0), (0.02, 130.5), (0.03, 131.0), (0.9, 131.1)]
    assert speeds(passed, 132.0) == [None, None, pytest.approx(20.0), None, None]


def test_a_shorter_training_is_measured_at_its_end_without_its_first_step() -> None:
    assert speeds([(0.5, 130.0), (1.0, 130.5)], 131.0) == [None, None, pytest.approx(1000.0)]


@pytest.mark.parametrize("passed", [[], [(1.0, 104.0)]], ids=["no progress", "one step"])
def test_where_only_the_whole_is_known_the_whole_counts(passed: Passed) -> None:
    assert speeds(passed, 105.0)[-1] == pytest.approx(200.0)


def test_a_step_longer_than_the_second_is_waited_for() -> None:
    passed = [(0.1, 101.0), (0.1, 105.0), (0.2, 111.0)]
    assert speeds(passed, 112.0) == [None, None, pytest.approx(10.0), None]


def test_a_clock_that_stands_gives_a_speed_all_the_same() -> None:
    assert speeds([(0.5, 100.0), (1.0, 100.0)], 100.0)[-1] == pytest.approx(500 / 1e-6)
