"""Windows of a convolution or pooling; shapes are fixed, images [N, height, width, channels]."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from host.errors import ConfigError

Tensor = Any  # TensorFlow ships no types
Operation = Any
Pair = tuple[int, int]


def refuse(operation: Operation, what: str) -> ConfigError:
    """Say which operator of which layer has no gradient here; the name holds the layer's."""
    return ConfigError(f"{operation.name} ({operation.type}): {what}")


@dataclass(frozen=True)
class Windows:
    """An operator's windows over an image; each pair is (height, width), each padding (before, after)."""

    image: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: tuple[Pair, Pair]
    count: Pair

    @classmethod
    def of(cls, operation: Operation, image: Tensor, kernel: Pair, dilation: Pair = (1, 1)) -> "Windows":
        """Read the attributes of a convolution or pooling over `image`; raises ConfigError."""
        if operation.get_attr("data_format") != b"NHWC":
            raise refuse(operation, "channels come first: use data_format='channels_last'")
        if image.shape.rank is None or None in image.shape:
            raise refuse(operation, "the shape of its input is not fixed: use fixed shapes")
        same = operation.get_attr("padding") == b"SAME"
        if not same and operation.get_attr("padding") != b"VALID":
            raise refuse(operation, "its padding is explicit: use ZeroPadding2D")
        size, stride = tuple(image.shape[1:3]), tuple(operation.get_attr("strides")[1:3])
        reach = _reach(kernel, dilation)
        count = tuple(
            -(-n // s) if same else (n - r) // s + 1 for n, s, r in zip(size, stride, reach, strict=True)
        )
        padding = tuple(
            same_padding(n, s, r, c) if same else (0, 0)
            for n, s, r, c in zip(size, stride, reach, count, strict=True)
        )
        return cls(size, kernel, stride, dilation, padding, count)  # type: ignore[arg-type]  # of two each

    @property
    def reach(self) -> Pair:
        """How far a kernel with its dilation reaches."""
        return _reach(self.kernel, self.dilation)

    @property
    def padded(self) -> Pair:
        """Size of the image with its padding."""
        return self.image[0] + sum(self.padding[0]), self.image[1] + sum(self.padding[1])

    @property
    def tiles(self) -> bool:
        """Whether square windows lie side by side without overlap or gap."""
        return self.kernel == self.stride and self.kernel[0] == self.kernel[1] and self.dilation == (1, 1)

    def pad(self, image: Tensor, value: float = 0.0) -> Tensor:
        """Put the padding around an image."""
        return image if self.padded == self.image else tf.pad(image, _edges(*self.padding), "CONSTANT", value)

    def unpad(self, image: Tensor) -> Tensor:
        """Take the padding off again."""
        (top, _), (left, _) = self.padding
        return crop(image, (top, left), self.image)

    def tap(self, padded: Tensor, row: int, column: int) -> Tensor:
        """What each window of a padded image has at (row, column) of its kernel: [N, *count, channels]."""
        begin = row * self.dilation[0], column * self.dilation[1]
        end = tuple(b + (c - 1) * s + 1 for b, c, s in zip(begin, self.count, self.stride, strict=True))
        return padded[:, begin[0] : end[0] : self.stride[0], begin[1] : end[1] : self.stride[1], :]

    def spread(self, values: Tensor) -> Tensor:
        """Put stride - 1 zeros between the values of windows: the first lies where its window begins."""
        rows, columns = values.shape[1:3]
        across, along = self.stride
        channels = values.shape[3]
        if across > 1:
            lines = tf.reshape(values, [-1, rows, 1, columns * channels])
            values = tf.pad(lines, _edges((0, 0), (0, across - 1)))
        if along > 1:
            points = tf.reshape(values, [-1, rows * across * columns, 1, channels])
            values = tf.pad(points, _edges((0, 0), (0, along - 1)))
        spread = tf.reshape(values, [-1, rows * across, columns * along, channels])
        return crop(spread, (0, 0), ((rows - 1) * across + 1, (columns - 1) * along + 1))

    def place(self, values: Tensor, row: int, column: int) -> Tensor:
        """The reverse of `tap`: the values where they came from in a padded image of zeros."""
        at = row * self.dilation[0], column * self.dilation[1]
        spread = self.spread(values)
        rest = [n - a - size for n, a, size in zip(self.padded, at, spread.shape[1:3], strict=True)]
        return tf.pad(spread, _edges((at[0], rest[0]), (at[1], rest[1])))

    def frame(self, values: Tensor) -> Tensor:
        """Spread values, with zeros around: a plain convolution with the reversed kernel brings them back."""
        spread = self.spread(values)
        before = self.reach[0] - 1, self.reach[1] - 1
        after = self.padded[0] - spread.shape[1], self.padded[1] - spread.shape[2]
        return tf.pad(spread, _edges((before[0], after[0]), (before[1], after[1])))


def crop(image: Tensor, begin: Pair, size: Pair) -> Tensor:
    """Cut a part out of an image, unless it is the whole."""
    if tuple(image.shape[1:3]) == tuple(size):
        return image
    return image[:, begin[0] : begin[0] + size[0], begin[1] : begin[1] + size[1], :]


def _reach(kernel: Pair, dilation: Pair) -> Pair:
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def same_padding(size: int, stride: int, reach: int, count: int) -> Pair:
    """Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2."""
    total = max((count - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def _edges(rows: Pair, columns: Pair) -> list[Pair]:
    return [(0, 0), rows, columns, (0, 0)]
