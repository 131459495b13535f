"""Gradients of activations."""

import tensorflow as tf

from aggregator.keras.gradients.geometry import Operation, Tensor

# Source: Klambauer et al. 2017, Self-Normalizing Neural Networks, https://arxiv.org/abs/1706.02515
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772


def relu(operation: Operation, gradient: Tensor) -> Tensor:
    """Relu: where it gave something.

    The sign of what it gave is 0 or 1; XNNPACK has it, and neither comparing nor choosing.
    """
    return gradient * tf.sign(operation.outputs[0])


def relu6(operation: Operation, gradient: Tensor) -> Tensor:
    """Relu6: between its corners."""
    output = operation.outputs[0]
    inside = tf.logical_and(output > 0.0, output < 6.0)  # noqa: PLR2004  what the 6 stands for
    return tf.where(inside, gradient, tf.zeros_like(gradient))


def leaky_relu(operation: Operation, gradient: Tensor) -> Tensor:
    """LeakyRelu: alpha below zero."""
    return tf.where(operation.inputs[0] > 0.0, gradient, gradient * operation.get_attr("alpha"))


def elu(operation: Operation, gradient: Tensor) -> Tensor:
    """Elu: exp(x) = y + 1 below zero."""
    output = operation.outputs[0]
    return tf.where(output < 0.0, gradient * (output + 1.0), gradient)


def selu(operation: Operation, gradient: Tensor) -> Tensor:
    """Selu: a scaled Elu."""
    output = operation.outputs[0]
    below = gradient * (output + SELU_SCALE * SELU_ALPHA)
    return tf.where(output < 0.0, below, gradient * SELU_SCALE)


def softplus(operation: Operation, gradient: Tensor) -> Tensor:
    """Softplus: the sigmoid."""
    return gradient * tf.sigmoid(operation.inputs[0])


def softsign(operation: Operation, gradient: Tensor) -> Tensor:
    """Softsign: 1 / (1 + |x|) squared."""
    return gradient / tf.square(1.0 + tf.abs(operation.inputs[0]))
