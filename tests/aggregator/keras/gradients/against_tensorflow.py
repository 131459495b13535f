"""Our gradients and TensorFlow's own, of the same operation on the same numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st

from aggregator.keras.gradients.table import GRADIENTS, builtin_gradients

Tensor = Any
Array = Any

EXTENT = st.integers(1, 9)
KERNEL = st.integers(1, 4)
STRIDE = st.integers(1, 3)
PADDING = st.sampled_from(["SAME", "VALID"])
SEED = st.integers(0, 1 << 16)


def draw(seed: int, *shape: int) -> Array:
    """Normally distributed float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check(operator: str, compute: Callable[..., Tensor], *inputs: Array) -> None:
    """Compare the gradients of all `inputs` (float32) of a `compute` that has `operator` in it."""

    def ours(*tensors: Tensor) -> Tensor:
        output = compute(*tensors)
        # Otherwise theirs would be compared with theirs.
        assert operator in GRADIENTS
        assert operator in {operation.type for operation in output.graph.get_operations()}
        return output

    compare(ours, compute, *inputs)


def compare(ours: Callable[..., Tensor], theirs: Callable[..., Tensor], *inputs: Array) -> None:
    """Compare two functions of `inputs` (float32) and all their gradients."""
    expected = _theirs(theirs, inputs)
    for wanted, found in zip(expected, _ours(ours, inputs), strict=True):
        scale = max(1.0, float(np.abs(wanted).max(initial=0)))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * scale)


def _theirs(compute: Callable[..., Tensor], inputs: tuple[Array, ...]) -> list[Array]:
    tensors = [tf.constant(value) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        output = compute(*tensors)
    gradients = tape.gradient(output, tensors, draw(7, *output.shape))
    return [tf.convert_to_tensor(value).numpy() for value in [output, *gradients]]


def _ours(compute: Callable[..., Tensor], inputs: tuple[Array, ...]) -> list[Array]:
    with tf.Graph().as_default() as graph, builtin_gradients():
        tensors = [tf.constant(value) for value in inputs]
        output = compute(*tensors)
        gradients = tf.gradients(output, tensors, draw(7, *output.shape))
    with tf.compat.v1.Session(graph=graph) as session:
        return list(session.run([output, *gradients]))
