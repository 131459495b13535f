import numpy as np
import tensorflow as tf
from hypothesis import assume, given, settings

from tests.aggregator.keras.gradients.against_tensorflow import (
    EXTENT,
    KERNEL,
    PADDING,
    SEED,
    STRIDE,
    check,
    draw,
)


@given(EXTENT, EXTENT, KERNEL, KERNEL, STRIDE, STRIDE, PADDING, SEED)
@settings(max_examples=25)
def test_the_gradient_of_max_pooling_goes_to_the_first_maximum(
    height: int, width: int, rows: int, columns: int, down: int, right: int, padding: str, seed: int
) -> None:
    assume(padding == "SAME" or (height >= rows and width >= columns))
    # Few different values: many windows have several maxima.
    image = np.round(draw(seed, 2, height, width, 3))
    check("MaxPool", lambda x: tf.nn.max_pool2d(x, [rows, columns], [down, right], padding), image)


@given(EXTENT, EXTENT, KERNEL, PADDING, SEED)
@settings(max_examples=15)
def test_the_gradient_of_max_pooling_without_overlap(
    height: int, width: int, size: int, padding: str, seed: int
) -> None:
    assume(padding == "SAME" or min(height, width) >= size)
    image = np.round(draw(seed, 2, height, width, 2))
    check("MaxPool", lambda x: tf.nn.max_pool2d(x, size, size, padding), image)


@given(EXTENT, EXTENT, KERNEL, KERNEL, STRIDE, STRIDE, PADDING, SEED)
@settings(max_examples=25)
def test_the_gradient_of_average_pooling_leaves_padding_out(
    height: int, width: int, rows: int, columns: int, down: int, right: int, padding: str, seed: int
) -> None:
    assume(padding == "SAME" or (height >= rows and width >= columns))
    image = draw(seed, 2, height, width, 3)
    check("AvgPool", lambda x: tf.nn.avg_pool2d(x, [rows, columns], [down, right], padding), image)


@given(EXTENT, EXTENT, KERNEL, PADDING, SEED)
@settings(max_examples=15)
def test_the_gradient_of_average_pooling_without_overlap(
    height: int, width: int, size: int, padding: str, seed: int
) -> None:
    assume(padding == "SAME" or min(height, width) >= size)
    check("AvgPool", lambda x: tf.nn.avg_pool2d(x, size, size, padding), draw(seed, 2, height, width, 3))
