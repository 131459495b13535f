import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.aggregator.keras.gradients.against_tensorflow import EXTENT, SEED, check, draw


@pytest.mark.parametrize("across", [False, True], ids=["plain", "a across"])
@pytest.mark.parametrize("down", [False, True], ids=["plain", "b across"])
@given(extents=st.tuples(EXTENT, EXTENT, EXTENT), seed=SEED)
@settings(max_examples=10)
def test_the_gradient_of_a_product(
    *, down: bool, across: bool, extents: tuple[int, int, int], seed: int
) -> None:
    rows, inner, columns = extents
    a = draw(seed, *((inner, rows) if across else (rows, inner)))
    b = draw(seed + 1, *((columns, inner) if down else (inner, columns)))
    check("MatMul", lambda a, b: tf.matmul(a, b, across, down), a, b)
