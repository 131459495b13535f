"""Convolution as a product of matrices.

XNNPACK multiplies matrices that change from call to call, but convolves only with filters that are constants
of the file; in training all are changing, and LiteRT's own convolution takes up to nine times as long. So the
image is cut into blocks, each row of the left matrix is the blocks that a tile of neighbouring outputs sees,
and the right matrix has the filter once for each output of the tile. A tile makes the product as wide as
XNNPACK's registers and its copies long; the result needs no rearranging. docs/decisions/0013 has the figures.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import tensorflow as tf

from aggregator.keras.gradients.geometry import Pair, same_padding

Tensor = Any  # TensorFlow ships no types

# Columns of the product that fill XNNPACK's widest kernel, and how many outputs a tile has at most: of the
# tile's blocks the more is multiplied by zeros the longer it is.
COLUMNS = 32
MAX_TILE = 4


def convolution(image: Tensor, kernel: Tensor, strides: Pair, padding: str) -> Tensor:
    """Convolve float32[N, height, width, in] with float32[rows, columns, in, out]; `padding` as in Keras."""
    rows, columns, _, filters = kernel.shape
    tiling = Tiling.of(tuple(image.shape[1:3]), (rows, columns), strides, padding, filters)
    seen = neighbours(neighbours(tiling.blocks(image), 2, tiling.across), 1, tiling.down)
    weights = tiling.weights(kernel)
    # In batches of one: LiteRT multiplies two-dimensional matrices by another, slower operator.
    product = tf.matmul(tf.reshape(seen, [1, -1, weights.shape[0]]), tf.reshape(weights, [1, *weights.shape]))
    height, width = tiling.count
    tiles = tf.reshape(product, [-1, height, tiling.tiles * tiling.tile, filters])
    return tiles[:, :, :width, :] if tiles.shape[2] > width else tiles


@dataclass(frozen=True)
class Tiling:
    """How an image lies in blocks; each pair is (height, width)."""

    kernel: Pair
    stride: Pair
    before: Pair
    """Padding above and to the left."""
    count: Pair
    """Extents of the output."""
    tile: int
    """Neighbouring outputs in a row that are computed at once."""

    @classmethod
    def of(cls, size: Pair, kernel: Pair, stride: Pair, padding: str, filters: int) -> "Tiling":
        """Choose the tile for a filter that gives `filters` channels."""
        same = padding == "same"
        extents = list(zip(size, kernel, stride, strict=True))
        height, width = (-(-n // s) if same else (n - k) // s + 1 for n, k, s in extents)
        top, left = (
            same_padding(n, s, k, count)[0] if same else 0
            for (n, k, s), count in zip(extents, (height, width), strict=True)
        )
        tile = max(1, min(MAX_TILE, COLUMNS // filters, width))
        return cls(kernel, stride, (top, left), (height, width), tile)

    @property
    def block(self) -> Pair:
        """Extents of a block: how far it is from a tile to the next."""
        return self.stride[0], self.stride[1] * self.tile

    @property
    def tiles(self) -> int:
        """Tiles in a row."""
        return -(-self.count[1] // self.tile)

    @property
    def down(self) -> int:
        """Blocks that a tile sees, one below the other."""
        return -(-self.kernel[0] // self.stride[0])

    @property
    def across(self) -> int:
        """Blocks that a tile sees side by side."""
        return -(-((self.tile - 1) * self.stride[1] + self.kernel[1]) // self.block[1])

    def blocks(self, image: Tensor) -> Tensor:
        """Cut an image: [N, blocks down, blocks across, numbers of a block]."""
        (tall, wide), channels = self.block, image.shape[3]
        down, across = self.count[0] + self.down - 1, self.tiles + self.across - 1
        image = _fitted(image, self.before, (down * tall, across * wide))
        if tall == 1:
            return tf.reshape(image, [-1, down, across, wide * channels])
        lines = tf.reshape(image, [-1, down, tall, across, wide * channels])
        return tf.reshape(tf.transpose(lines, [0, 1, 3, 2, 4]), [-1, down, across, tall * wide * channels])

    def weights(self, kernel: Tensor) -> Tensor:
        """The filter for each output of a tile: [numbers in all blocks that it sees, tile * filters]."""
        rows, columns, channels, filters = kernel.shape
        (tall, wide), down, across = self.block, self.down, self.across
        by_output = [
            tf.pad(kernel, [(0, down * tall - rows), (at, across * wide - columns - at), (0, 0), (0, 0)])
            for at in range(0, wide, self.stride[1])
        ]
        weights = tf.stack(by_output, 3) if len(by_output) > 1 else by_output[0]
        if tall > 1:
            apart = tf.reshape(weights, [down, tall, across, wide, channels * self.tile * filters])
            weights = tf.transpose(apart, [0, 2, 1, 3, 4])
        return tf.reshape(weights, [down * across * tall * wide * channels, self.tile * filters])


def neighbours(blocks: Tensor, axis: int, count: int) -> Tensor:
    """Join each of [N, height, width, channels] with the `count` - 1 that follow it along an axis."""
    if count == 1:
        return blocks
    size = blocks.shape[axis] - count + 1

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def joined(blocks: Tensor) -> tuple[Tensor, Any]:
        return tf.concat([_cut(blocks, axis, at, size) for at in range(count)], 3), back

    def back(gradient: Tensor) -> Tensor:
        channels = gradient.shape[3] // count
        parts = [_cut(gradient, 3, at * channels, channels) for at in range(count)]
        # By twos: the sum of more has no kernel in XNNPACK.
        return reduce(tf.add, [_padded(part, axis, at, count - 1 - at) for at, part in enumerate(parts)])

    return joined(blocks)


def _fitted(image: Tensor, before: Pair, size: Pair) -> Tensor:
    """Pad or cut an image to a size, with so much padding above and to the left."""
    taken = [min(n, s - b) for n, s, b in zip(image.shape[1:3], size, before, strict=True)]
    if tuple(taken) != tuple(image.shape[1:3]):
        image = image[:, : taken[0], : taken[1], :]
    edges = [(b, s - n - b) for n, s, b in zip(taken, size, before, strict=True)]
    return tf.pad(image, [(0, 0), *edges, (0, 0)]) if any(map(any, edges)) else image


def _cut(values: Tensor, axis: int, begin: int, size: int) -> Tensor:
    sizes = [size if index == axis else extent for index, extent in enumerate(values.shape)]
    return tf.slice(values, [begin if index == axis else 0 for index in range(4)], sizes)


def _padded(values: Tensor, axis: int, before: int, after: int) -> Tensor:
    return tf.pad(values, [(before, after) if index == axis else (0, 0) for index in range(4)])
