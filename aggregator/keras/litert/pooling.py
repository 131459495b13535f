"""Max pooling in windows that lie side by side, with far less moving of data than MAX_POOL_2D's gradient."""

from functools import reduce
from typing import Any

import tensorflow as tf

from aggregator.keras.gradients.geometry import Pair

Tensor = Any  # TensorFlow ships no types


def max_pool(image: Tensor, size: Pair) -> Tensor:
    """Pool float32[N, height, width, channels] in windows of `size`, in steps of `size`, without padding.

    A bias and a ReLU commute with the maximum, as all that never falls does: they come after it, on fewer
    numbers, forwards and backwards.
    """
    if image.op.type == "Relu":
        return tf.nn.relu(max_pool(image.op.inputs[0], size))
    if image.op.type == "BiasAdd":
        return tf.nn.bias_add(max_pool(image.op.inputs[0], size), image.op.inputs[1])
    (tall, wide), channels = size, image.shape[3]
    down, across = image.shape[1] // tall, image.shape[2] // wide
    if (down * tall, across * wide) != tuple(image.shape[1:3]):
        image = image[:, : down * tall, : across * wide, :]
    # Columns first: then of equal maxima the first row's first takes the gradient, as in TensorFlow.
    columns = _first_maximum(tf.reshape(image, [-1, wide * channels]), wide)
    rows = _first_maximum(tf.reshape(columns, [-1, tall * across * channels]), tall)
    return tf.reshape(rows, [-1, down, across, channels])


def _first_maximum(values: Tensor, count: int) -> Tensor:
    """Largest of `count` neighbouring parts of each row, by number; the first of equal ones has the gradient.

    No part exceeds the maximum, so sign(maximum - part) is 0 where it is reached and 1 elsewhere: boolean
    operators would take several times as long.
    """
    if count == 1:
        return values

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def first_maximum(values: Tensor) -> tuple[Tensor, Any]:
        parts = tf.split(values, count, 1)
        maximum = reduce(tf.maximum, parts)

        def back(gradient: Tensor) -> Tensor:
            left, shares = gradient, []
            for part in parts[:-1]:
                rest = left * tf.sign(maximum - part)
                shares.append(left - rest)
                left = rest
            return tf.concat([*shares, left], 1)

        return maximum, back

    return first_maximum(values)
