import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aggregator.keras.litert.convolution import Tiling, convolution
from tests.aggregator.keras.gradients.against_tensorflow import (
    EXTENT,
    KERNEL,
    PADDING,
    SEED,
    STRIDE,
    compare,
    draw,
)

# A tile of four outputs, of three, and none.
FILTERS = st.sampled_from([2, 10, 40])


@given(
    st.tuples(EXTENT, EXTENT), st.tuples(KERNEL, KERNEL), st.tuples(STRIDE, STRIDE), PADDING, FILTERS, SEED
)
@settings(max_examples=60)
def test_a_convolution_as_a_product_and_its_gradients_are_tensorflows(
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
    filters: int,
    seed: int,
) -> None:
    assume(padding == "SAME" or (size[0] >= kernel[0] and size[1] >= kernel[1]))
    compare(
        lambda image, kernel: convolution(image, kernel, strides, padding.lower()),
        lambda image, kernel: tf.nn.conv2d(image, kernel, strides, padding),
        draw(seed, 2, *size, 3),
        draw(seed + 1, *kernel, 3, filters),
    )


def test_few_filters_are_computed_in_tiles_of_neighbouring_outputs() -> None:
    tiles = [Tiling.of((28, 28), (5, 5), (1, 1), "valid", filters).tile for filters in (1, 8, 16, 64)]
    assert tiles == [4, 4, 2, 1]
