"""Gradients of products of matrices."""

import tensorflow as tf

from aggregator.keras.gradients.geometry import Operation, Tensor


def matmul(operation: Operation, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """MatMul(a, b) of two-dimensional matrices.

    In batches of one: two-dimensional, the product with a transposed matrix becomes FULLY_CONNECTED, which
    XNNPACK leaves to a kernel that is four times slower when its weights are no constants of the file.
    """
    a, b = (tf.reshape(part, [1, *part.shape]) for part in operation.inputs)
    gradient = tf.reshape(gradient, [1, *gradient.shape])
    across, down = operation.get_attr("transpose_a"), operation.get_attr("transpose_b")
    of_a = tf.matmul(b, gradient, down, True) if across else tf.matmul(gradient, b, False, not down)
    of_b = tf.matmul(gradient, a, True, across) if down else tf.matmul(a, gradient, not across, False)
    return tf.reshape(of_a, operation.inputs[0].shape), tf.reshape(of_b, operation.inputs[1].shape)
