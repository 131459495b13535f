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
    output = compute(*inputs)
    cotangent = draw(7, *output.shape)
    expected = _theirs(compute, inputs, cotangent)
    for theirs, ours in zip(expected, _ours(operator, compute, inputs, cotangent), strict=True):
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * scale)


def _theirs(compute: Callable[..., Tensor], inputs: tuple[Array, ...], cotangent: Array) -> list[Array]:
    tensors = [tf.constant(value) for value in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        output = compute(*tensors)
    gradients = tape.gradient(output, tensors, cotangent)
    return [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def _ours(
    operator: str, compute: Callable[..., Tensor], inputs: tuple[Array, ...], cotangent: Array
) -> list[Array]:
    with tf.Graph().as_default() as graph, builtin_gradients():
        tensors = [tf.constant(value) for value in inputs]
        output = compute(*tensors)
        # Otherwise theirs would be compared with theirs.
        assert operator in GRADIENTS
        assert operator in {operation.type for operation in graph.get_operations()}
        gradients = tf.gradients(output, tensors, cotangent)
    with tf.compat.v1.Session(graph=graph) as session:
        return list(session.run(gradients))
