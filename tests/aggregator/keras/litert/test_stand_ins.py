import math

import numpy as np
import tensorflow as tf

from aggregator.keras.determinism import keras
from aggregator.keras.litert.stand_ins import builtin_functions, erf, without_dropout


def test_the_error_function_is_good_to_float32() -> None:
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    expected = np.array([math.erf(value) for value in x])
    assert np.abs(erf(x) - expected).max() < 5e-7


def test_the_gradient_of_the_error_function_is_its_own() -> None:
    x = tf.linspace(-5.0, 5.0, 101)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, theirs = erf(x), tf.math.erf(x)
    np.testing.assert_allclose(tape.gradient(ours, x), tape.gradient(theirs, x), atol=1e-7)


def test_keras_has_its_own_functions_back_afterwards() -> None:
    x = tf.constant([0.3, -2.0])
    before = keras.ops.erf(x)
    with builtin_functions(), without_dropout():
        np.testing.assert_array_equal(keras.ops.erf(x), erf(x))
        np.testing.assert_array_equal(keras.random.dropout(x, 0.9), x)
    np.testing.assert_array_equal(keras.ops.erf(x), before)
    assert not np.array_equal(keras.random.dropout(tf.ones(100), 0.5), np.ones(100))


def test_the_largest_of_several_is_found_as_keras_finds_it() -> None:
    x = tf.constant([[1.0, 3.0, 3.0], [-1.0, -2.0, -1.0]])
    for axis in (None, -1, 0):
        expected = keras.ops.argmax(x, axis)
        with builtin_functions():
            np.testing.assert_array_equal(keras.ops.argmax(x, axis), expected)
    with builtin_functions():
        assert keras.ops.argmax(x, -1, keepdims=True).shape == (2, 1)
