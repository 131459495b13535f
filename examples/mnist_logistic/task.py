"""MNIST with the smallest model there is: softmax regression, 7850 weights.

The held-out examples are those of `test.npz` beside this file.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

data_contract = {"shape": (28, 28), "dtype": "uint8", "classes": [str(digit) for digit in range(10)]}

# Of MNIST's training pixels, scaled to 0 to 1.
MEAN, DEVIATION = 0.1307, 0.3081


def build_model() -> keras.Model:
    """Raw pixels in, standardised inside; a probability for each digit out."""
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Rescaling(1 / (255 * DEVIATION), offset=-MEAN / DEVIATION),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_data() -> tuple[NDArray[Any], NDArray[Any]]:
    """Give images uint8[n, 28, 28] and labels int32[n] that no device has."""
    with np.load(Path(__file__).with_name("test.npz")) as held_out:
        return held_out["x"], held_out["y"]
