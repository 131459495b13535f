"""Gradients of pooling."""

import numpy as np
import tensorflow as tf

from aggregator.keras.gradients.geometry import Operation, Tensor, Windows

# Smaller than any value, and still finite after a subtraction.
LOWEST = -1e38


def max_pool(operation: Operation, gradient: Tensor) -> Tensor:
    """MaxPool: the first maximum of a window takes its gradient, as in TensorFlow.

    No tap exceeds the maximum, so sign(maximum - tap) is 0 at a maximum and 1 elsewhere: multiplied from tap
    to tap, it is what is left of the gradient. Boolean operators take several times as long.
    """
    image, maximum = operation.inputs[0], operation.outputs[0]
    windows = _windows(operation, image)
    left, shares = gradient, []
    for tap in _taps(windows, windows.pad(image, LOWEST)):
        rest = left * tf.sign(maximum - tap)
        shares.append(left - rest)
        left = rest
    return windows.unpad(_gather_back(windows, shares))


def average_pool(operation: Operation, gradient: Tensor) -> Tensor:
    """AvgPool: every value of a window takes an equal share; padding has none."""
    image = operation.inputs[0]
    windows = _windows(operation, image)
    share = gradient / _sizes(windows)
    if windows.tiles:
        taps = windows.kernel[0] * windows.kernel[1]
        return windows.unpad(_gather_back(windows, [share] * taps))
    ones = tf.ones([*windows.kernel, image.shape[3], 1])
    back = tf.nn.depthwise_conv2d(windows.frame(share), ones, [1, 1, 1, 1], "VALID")
    return windows.unpad(back)


def _windows(operation: Operation, image: Tensor) -> Windows:
    _, rows, columns, _ = operation.get_attr("ksize")
    return Windows.of(operation, image, (rows, columns))


def _taps(windows: Windows, padded: Tensor) -> list[Tensor]:
    rows, columns = windows.kernel
    if windows.tiles:
        covered = padded[:, : windows.count[0] * rows, : windows.count[1] * columns, :]
        return (
            list(tf.split(tf.nn.space_to_depth(covered, rows), rows * columns, 3)) if rows > 1 else [covered]
        )
    return [windows.tap(padded, row, column) for row in range(rows) for column in range(columns)]


def _gather_back(windows: Windows, taps: list[Tensor]) -> Tensor:
    """Sum what each tap gives back, as a padded image."""
    rows, columns = windows.kernel
    if windows.tiles and rows > 1:
        image = tf.nn.depth_to_space(tf.concat(taps, 3), rows)
        rest = [n - size for n, size in zip(windows.padded, image.shape[1:3], strict=True)]
        return tf.pad(image, [(0, 0), (0, rest[0]), (0, rest[1]), (0, 0)]) if any(rest) else image
    at = [(row, column) for row in range(rows) for column in range(columns)]
    return tf.add_n([windows.place(tap, *where) for tap, where in zip(taps, at, strict=True)])


def _sizes(windows: Windows) -> Tensor:
    """How many values of the image each window holds: float32[1, *count, 1], or one number."""
    image = np.pad(np.ones(windows.image, np.float32), windows.padding)
    (rows, columns), (down, right) = windows.kernel, windows.stride
    by_place = np.lib.stride_tricks.sliding_window_view(image, (rows, columns))[::down, ::right]
    sizes = by_place.sum((2, 3))[None, :, :, None]
    return sizes[0, 0, 0, 0] if (sizes == sizes[0, 0, 0, 0]).all() else sizes
