from typing import Any

import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aggregator.keras.gradients.table import builtin_gradients
from host.errors import ConfigError
from tests.aggregator.keras.gradients.against_tensorflow import (
    EXTENT,
    KERNEL,
    PADDING,
    SEED,
    STRIDE,
    check,
    draw,
)

DILATION = st.integers(1, 3)


@given(EXTENT, EXTENT, KERNEL, KERNEL, STRIDE, STRIDE, PADDING, SEED)
@settings(max_examples=25)
def test_the_gradient_of_a_convolution_with_strides(
    height: int, width: int, rows: int, columns: int, down: int, right: int, padding: str, seed: int
) -> None:
    assume(padding == "SAME" or (height >= rows and width >= columns))
    check(
        "Conv2D",
        lambda image, kernel: tf.nn.conv2d(image, kernel, [down, right], padding),
        draw(seed, 2, height, width, 3),
        draw(seed + 1, rows, columns, 3, 2),
    )


@given(EXTENT, EXTENT, KERNEL, KERNEL, DILATION, DILATION, PADDING, SEED)
@settings(max_examples=25)
def test_the_gradient_of_a_convolution_with_dilation(
    height: int, width: int, rows: int, columns: int, down: int, right: int, padding: str, seed: int
) -> None:
    assume(padding == "SAME" or (height > (rows - 1) * down and width > (columns - 1) * right))
    check(
        "Conv2D",
        lambda image, kernel: tf.nn.conv2d(image, kernel, 1, padding, dilations=[down, right]),
        draw(seed, 2, height, width, 2),
        draw(seed + 1, rows, columns, 2, 3),
    )


@given(EXTENT, EXTENT, KERNEL, KERNEL, STRIDE, PADDING, st.integers(1, 3), SEED)
@settings(max_examples=25)
def test_the_gradient_of_a_depthwise_convolution(
    height: int, width: int, rows: int, columns: int, stride: int, padding: str, copies: int, seed: int
) -> None:
    assume(padding == "SAME" or (height >= rows and width >= columns))
    check(
        "DepthwiseConv2dNative",
        lambda image, kernel: tf.nn.depthwise_conv2d(image, kernel, [1, stride, stride, 1], padding),
        draw(seed, 2, height, width, 3),
        draw(seed + 1, rows, columns, 3, copies),
    )


@given(EXTENT, EXTENT, KERNEL, KERNEL, STRIDE, STRIDE, PADDING, SEED)
@settings(max_examples=25)
def test_the_gradient_of_a_transposed_convolution(
    height: int, width: int, rows: int, columns: int, down: int, right: int, padding: str, seed: int
) -> None:
    sizes = [
        n * s if padding == "SAME" else (n - 1) * s + k
        for n, s, k in ((height, down, rows), (width, right, columns))
    ]
    check(
        "Conv2DBackpropInput",
        lambda image, kernel: tf.nn.conv2d_transpose(image, kernel, [2, *sizes, 3], [down, right], padding),
        draw(seed, 2, height, width, 2),
        draw(seed + 1, rows, columns, 3, 2),
    )


def compute_grouped(image: Any) -> Any:  # noqa: ANN401
    return tf.nn.conv2d(image, tf.ones([1, 1, 1, 4]), 1, "SAME", name="my_layer")


def compute_channels_first(image: Any) -> Any:  # noqa: ANN401
    return tf.nn.conv2d(image, tf.ones([1, 1, 4, 4]), 1, "SAME", data_format="NCHW", name="my_layer")


def compute_explicit(image: Any) -> Any:  # noqa: ANN401
    edges = [[0, 0], [1, 2], [0, 0], [0, 0]]
    return tf.nn.conv2d(image, tf.ones([1, 1, 2, 4]), 1, edges, name="my_layer")


@pytest.mark.parametrize(
    ("compute", "instead"),
    [
        (compute_grouped, "groups=1"),
        (compute_channels_first, "channels_last"),
        (compute_explicit, "ZeroPadding2D"),
    ],
)
def test_a_convolution_that_has_no_gradient_here_is_named_with_what_to_use(
    compute: Any,  # noqa: ANN401
    instead: str,
) -> None:
    with tf.Graph().as_default(), builtin_gradients():
        image = tf.ones([1, 4, 4, 2]) if compute is not compute_channels_first else tf.ones([1, 4, 4, 4])
        output = compute(image)
        with pytest.raises(ConfigError, match=f"my_layer.*{instead}"):
            tf.gradients(output, image)
