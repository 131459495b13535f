from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.keras.gradients.table import builtin_gradients
from host.errors import ConfigError
from tests.aggregator.keras.gradients.against_tensorflow import SEED, check, draw

BOUND = st.one_of(st.none(), st.integers(-4, 4))
INDEX = st.one_of(st.integers(-3, 2), st.builds(slice, BOUND, BOUND))


@given(st.lists(INDEX, min_size=1, max_size=3), SEED)
@settings(max_examples=40)
def test_the_gradient_of_a_slice(index: list[Any], seed: int) -> None:
    check("StridedSlice", lambda x: x[tuple(index)], draw(seed, 3, 3, 5))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), SEED)
@settings(max_examples=20)
def test_the_gradients_of_a_row_picked_twice_add_up(rows: list[int], seed: int) -> None:
    check("GatherV2", lambda x: tf.gather(x, np.array(rows, np.int32)), draw(seed, 7, 2, 3))


@pytest.mark.parametrize(
    ("compute", "instead"),
    [
        (lambda x: x[..., 0], "every axis"),
        (lambda x: x[:, tf.newaxis], "every axis"),
        (lambda x: x[::2], "keras.ops.take"),
        (lambda x: tf.gather(x, [0, 1], axis=1), "axis=0"),
    ],
)
def test_what_has_no_gradient_here_is_refused_with_what_to_use(
    compute: Any,  # noqa: ANN401
    instead: str,
) -> None:
    with tf.Graph().as_default(), builtin_gradients():
        x = tf.ones([3, 4])
        output = compute(x)
        with pytest.raises(ConfigError, match=instead):
            tf.gradients(output, x)
