"""Keras' functions over images and sequences, led to ours where these have what is asked for."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from aggregator.keras.litert.convolution import convolution
from aggregator.keras.litert.pooling import max_pool

Tensor = Any  # TensorFlow ships no types
MAX_RANK = 2


def convolution_of(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Convolve as a product of matrices; what is dilated, grouped or of another rank, as Keras does."""

    def conv(
        inputs: Tensor,
        kernel: Tensor,
        strides: Any = 1,  # noqa: ANN401  a number or one for each axis
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,  # noqa: ANN401
    ) -> Tensor:
        rank = inputs.shape.rank - 2
        steps, dilation = _each(strides, rank), _each(dilation_rate, rank)
        other = data_format == "channels_first" or inputs.shape[-1] != kernel.shape[-2]
        if other or rank > MAX_RANK or any(rate > 1 for rate in dilation):
            return original(inputs, kernel, strides, padding, data_format, dilation_rate)
        if rank == 1:
            image, filters = tf.expand_dims(inputs, 1), tf.expand_dims(kernel, 0)
            return tf.squeeze(convolution(image, filters, (1, steps[0]), padding), 1)
        return convolution(inputs, kernel, (steps[0], steps[1]), padding)

    return conv


def max_pool_of(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Pool windows that lie side by side without padding as we do; others as Keras does."""

    def pool(
        inputs: Tensor,
        pool_size: Any,  # noqa: ANN401  a number or one for each axis
        strides: Any = None,  # noqa: ANN401
        padding: str = "valid",
        data_format: str | None = None,
    ) -> Tensor:
        extents = tuple(inputs.shape[1:-1])
        size, steps = _each(pool_size, len(extents)), _each(strides or pool_size, len(extents))
        padded = padding == "same" and any(n % k for n, k in zip(extents, size, strict=True))
        other = data_format == "channels_first" or len(extents) > MAX_RANK
        if other or padded or size != steps:
            return original(inputs, pool_size, strides, padding, data_format)
        if len(extents) == 1:
            return tf.squeeze(max_pool(tf.expand_dims(inputs, 1), (1, size[0])), 1)
        return max_pool(inputs, (size[0], size[1]))

    return pool


def _each(setting: Any, rank: int) -> tuple[int, ...]:  # noqa: ANN401
    return (setting,) * rank if isinstance(setting, int) else tuple(setting)
