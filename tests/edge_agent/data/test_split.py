import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.data.examples import Examples
from edge_agent.data.split import split


def numbered(count: int, start: int = 0) -> Examples:
    """Different inputs; each label names its input."""
    x = np.arange(start, start + count, dtype=np.float32).reshape(-1, 1)
    return Examples(x, np.arange(start, start + count, dtype=np.int32))


def test_about_the_fraction_is_put_aside_and_nothing_is_lost() -> None:
    parts = split(numbered(2000), 0.2)
    assert 320 < len(parts.validation.x) < 480
    assert sorted([*parts.training.y, *parts.validation.y]) == list(range(2000))
    for part in parts:
        assert part.x[:, 0].astype(int).tolist() == part.y.tolist()


def test_no_fraction_puts_nothing_aside() -> None:
    assert len(split(numbered(50), 0).validation.x) == 0


def test_an_example_stays_on_its_side_when_data_is_added_before_and_after() -> None:
    aside = set(split(numbered(100, start=50), 0.3).validation.y.tolist())
    larger = split(numbered(300), 0.3)
    assert {y for y in larger.validation.y.tolist() if 50 <= y < 150} == aside


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=40), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1 - 2**-53])
)
@settings(max_examples=80)
def test_equal_inputs_lie_on_one_side_and_training_is_never_empty(values: list[int], fraction: float) -> None:
    x = np.array(values, np.uint8).reshape(-1, 1)
    parts = split(Examples(x, np.arange(len(values), dtype=np.int32)), fraction)
    assert len(parts.training.x) > 0
    assert len(parts.training.x) + len(parts.validation.x) == len(values)
    assert not set(parts.training.x[:, 0].tolist()) & set(parts.validation.x[:, 0].tolist())
