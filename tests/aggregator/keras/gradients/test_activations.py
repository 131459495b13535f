from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.aggregator.keras.gradients.against_tensorflow import check, draw


@pytest.mark.parametrize(
    ("operator", "compute"),
    [
        ("Relu", tf.nn.relu),
        ("Relu6", tf.nn.relu6),
        ("LeakyRelu", lambda x: tf.nn.leaky_relu(x, 0.3)),
        ("Elu", tf.nn.elu),
        ("Selu", tf.nn.selu),
        ("Softplus", tf.math.softplus),
        ("Softsign", tf.nn.softsign),
    ],
)
def test_the_gradient_of_an_activation(operator: str, compute: Callable[[Any], Any]) -> None:
    # Its corners too, and where an exponential is out of range.
    corners = np.array([0.0, 6.0, -6.0, -100.0, 100.0], np.float32)
    check(operator, compute, np.concatenate([4 * draw(1, 200), corners]))
