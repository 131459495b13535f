import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.layout import Layout

SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=3).map(tuple), max_size=4).map(tuple)
LAYOUT = Layout(trainable=((2, 3), (3,)), state=((3,), ()))


def test_trainable_weights_come_first_and_state_after() -> None:
    assert [(entry.offset, entry.size, entry.trainable) for entry in LAYOUT.entries] == [
        (0, 6, True),
        (6, 3, True),
        (9, 3, False),
        (12, 1, False),
    ]
    assert (LAYOUT.trainable_size, LAYOUT.size) == (9, 13)


@given(trainable=SHAPES, state=SHAPES)
def test_flatten_undoes_unflatten(
    trainable: tuple[tuple[int, ...], ...], state: tuple[tuple[int, ...], ...]
) -> None:
    layout = Layout(trainable=trainable, state=state)
    theta = np.arange(layout.size, dtype=np.float32)
    weights = layout.unflatten(theta)
    assert [weight.shape for weight in weights] == [*trainable, *state]
    np.testing.assert_array_equal(layout.flatten(weights), theta)


def test_unflatten_gives_views() -> None:
    theta = np.zeros(LAYOUT.size, np.float32)
    LAYOUT.unflatten(theta)[1][2] = 5
    assert theta[8] == 5


def test_theta_is_little_endian_float32() -> None:
    big = [np.ones(entry.shape, ">f4") for entry in LAYOUT.entries]
    assert LAYOUT.flatten(big).tobytes() == np.ones(13, "<f4").tobytes()


def test_a_weight_of_another_shape_is_refused() -> None:
    weights = [np.zeros(entry.shape, np.float32) for entry in LAYOUT.entries]
    weights[0] = np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match=r"weight of shape \(3, 2\) where the layout has \(2, 3\)"):
        LAYOUT.flatten(weights)


@pytest.mark.parametrize("count", [3, 5])
def test_another_number_of_weights_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        LAYOUT.flatten(
            [np.zeros(entry.shape, np.float32) for entry in (*LAYOUT.entries, LAYOUT.entries[0])[:count]]
        )


@pytest.mark.parametrize("shape", [(12,), (14,), (13, 1), ()])
def test_theta_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="where the layout has"):
        LAYOUT.unflatten(np.zeros(shape, np.float32))


def test_the_digest_tells_layouts_apart() -> None:
    others = [
        Layout(trainable=((2, 3), (3,))),
        Layout(trainable=((2, 3),), state=((3,), (3,), ())),
        Layout(trainable=((3, 2), (3,)), state=((3,), ())),
    ]
    assert len({LAYOUT.digest, *(other.digest for other in others)}) == 4
    assert Layout.model_validate_json(LAYOUT.model_dump_json()).digest == LAYOUT.digest
