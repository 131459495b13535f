"""Gradients of convolutions.

The gradient of a filter is itself one convolution: of the image with the output's gradient as filter, batch
and channels swapped, stride and dilation swapped.
"""

import tensorflow as tf

from aggregator.keras.gradients.geometry import Operation, Tensor, Windows, crop, refuse


def conv2d(operation: Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Conv2D(image, filter)."""
    image, kernel = operation.inputs
    windows = Windows.of(operation, image, tuple(kernel.shape[:2]), _dilation(operation))
    if image.shape[3] != kernel.shape[2]:
        raise refuse(operation, "it is grouped: use groups=1, DepthwiseConv2D or SeparableConv2D")
    return _image_gradient(operation, windows, gradient), _filter_gradient(windows, image, gradient)


def conv2d_transpose(operation: Operation, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
    """Conv2DBackpropInput(shape, filter, image), which is what Conv2DTranspose computes."""
    _, kernel, image = operation.inputs
    if _dilation(operation) != (1, 1):
        raise refuse(operation, "it is dilated: use dilation_rate=1")
    windows = Windows.of(operation, gradient, tuple(kernel.shape[:2]))
    strides, padding = operation.get_attr("strides"), operation.get_attr("padding").decode()
    return (
        None,
        _filter_gradient(windows, gradient, image),
        tf.nn.conv2d(gradient, kernel, strides, padding),
    )


def depthwise_conv2d(operation: Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """DepthwiseConv2dNative(image, filter[rows, columns, channels, multiplier])."""
    image, kernel = operation.inputs
    rows, columns, channels, multiplier = kernel.shape
    windows = Windows.of(operation, image, (rows, columns), _dilation(operation))
    padded = windows.pad(image)
    # Output channels lie as channel * multiplier + copy.
    copies = [gradient[..., copy::multiplier] for copy in range(multiplier)] if multiplier > 1 else [gradient]
    taps = [windows.tap(padded, row, column) for row in range(rows) for column in range(columns)]
    sums = [tf.reduce_sum(tap * copy, [0, 1, 2]) for tap in taps for copy in copies]
    by_copy = tf.reshape(tf.stack(sums), [rows, columns, multiplier, channels])
    back = [_depthwise_back(windows, kernel[..., copy : copy + 1], part) for copy, part in enumerate(copies)]
    return tf.add_n(back) if multiplier > 1 else back[0], tf.transpose(by_copy, [0, 1, 3, 2])


def _dilation(operation: Operation) -> tuple[int, int]:
    _, rows, columns, _ = operation.get_attr("dilations")
    return rows, columns


def _filter_gradient(windows: Windows, image: Tensor, gradient: Tensor) -> Tensor:
    """One convolution over the image with the gradient as its filter: [rows, columns, in, out]."""
    needed = tuple(
        (c - 1) * s + r for c, s, r in zip(windows.count, windows.stride, windows.reach, strict=True)
    )
    padded = crop(windows.pad(image), (0, 0), needed)  # type: ignore[arg-type]  # of two
    by_filter = tf.nn.conv2d(
        tf.transpose(padded, [3, 1, 2, 0]),
        tf.transpose(gradient, [1, 2, 0, 3]),
        strides=windows.dilation,
        padding="VALID",
        dilations=windows.stride,
    )
    return tf.transpose(by_filter, [1, 2, 0, 3])


def _image_gradient(operation: Operation, windows: Windows, gradient: Tensor) -> Tensor:
    image, kernel = operation.inputs
    if windows.dilation == (1, 1):
        # Becomes TRANSPOSE_CONV, which is twice as fast as the convolution below.
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=image.shape,
            filter=kernel,
            out_backprop=gradient,
            strides=operation.get_attr("strides"),
            padding=operation.get_attr("padding").decode(),
        )
    reversed_kernel = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
    framed = windows.frame(gradient)
    back = tf.nn.conv2d(framed, reversed_kernel, 1, "VALID", dilations=windows.dilation)
    return windows.unpad(back)


def _depthwise_back(windows: Windows, kernel: Tensor, gradient: Tensor) -> Tensor:
    back = tf.nn.depthwise_conv2d(
        windows.frame(gradient),
        tf.reverse(kernel, [0, 1]),
        strides=[1, 1, 1, 1],
        padding="VALID",
        dilations=windows.dilation,
    )
    return windows.unpad(back)
