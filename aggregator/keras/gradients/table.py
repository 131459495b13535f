"""All operators whose gradients are said again, and how TensorFlow is made to use them."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from aggregator.keras.gradients import activations, convolution, indexing, pooling, products

GRADIENTS: dict[str, Callable[[Any, Any], Any]] = {
    "Relu": activations.relu,
    "Relu6": activations.relu6,
    "LeakyRelu": activations.leaky_relu,
    "Elu": activations.elu,
    "Selu": activations.selu,
    "Softplus": activations.softplus,
    "Softsign": activations.softsign,
    "Conv2D": convolution.conv2d,
    "Conv2DBackpropInput": convolution.conv2d_transpose,
    "DepthwiseConv2dNative": convolution.depthwise_conv2d,
    "MaxPool": pooling.max_pool,
    "AvgPool": pooling.average_pool,
    "MatMul": products.matmul,
    "StridedSlice": indexing.strided_slice,
    "GatherV2": indexing.gather,
}

# TensorFlow knows gradients by names; ours stand beside its own.
_NAMES = {operator: f"Midge{operator}" for operator in GRADIENTS}
for _operator, _gradient in GRADIENTS.items():
    tf.RegisterGradient(_NAMES[_operator])(_gradient)


def builtin_gradients() -> AbstractContextManager[None]:
    """Have `tf.gradients` use the table for operators created in this context, inside a graph."""
    context: AbstractContextManager[None] = tf.compat.v1.get_default_graph().gradient_override_map(_NAMES)
    return context
