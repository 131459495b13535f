from typing import Any

import numpy as np
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aggregator.keras.litert.pooling import max_pool
from tests.aggregator.keras.gradients.against_tensorflow import EXTENT, KERNEL, SEED, compare, draw

BEFORE = {
    "nothing": lambda image, _: tf.identity(image),
    "a bias": tf.nn.bias_add,
    "a bias and a relu": lambda image, bias: tf.nn.relu(tf.nn.bias_add(image, bias)),
}


@given(EXTENT, EXTENT, KERNEL, KERNEL, st.sampled_from(sorted(BEFORE)), SEED)
@settings(max_examples=60)
def test_pooling_and_its_gradients_are_tensorflows_also_where_maxima_are_equal(
    height: int, width: int, tall: int, wide: int, before: str, seed: int
) -> None:
    assume(height >= tall and width >= wide)

    def theirs(image: Any, bias: Any) -> Any:  # noqa: ANN401
        return (
            tf.nn.max_pool2d(BEFORE[before](image, bias), [tall, wide], [tall, wide], "VALID") + 0 * bias[0]
        )

    def ours(image: Any, bias: Any) -> Any:  # noqa: ANN401
        return max_pool(BEFORE[before](image, bias), (tall, wide)) + 0 * bias[0]

    # Few different values: many windows have several maxima.
    compare(ours, theirs, np.round(draw(seed, 2, height, width, 3)), np.round(draw(seed + 1, 3)))


def test_a_bias_and_a_relu_come_after_the_maximum_where_there_are_fewer_numbers() -> None:
    with tf.Graph().as_default():
        image = tf.zeros([1, 4, 6, 2])
        pooled = max_pool(tf.nn.relu(tf.nn.bias_add(image, tf.ones([2]))), (2, 3))
    assert pooled.op.type == "Relu"
    assert pooled.op.inputs[0].op.type == "BiasAdd"
    assert pooled.shape == (1, 2, 2, 2)
