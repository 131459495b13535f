"""Handwritten letters a to j, 100 x 100 pixels, white on black: a small convolutional network.

The held-out examples are those of `test.npz` beside this file.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

data_contract = {"shape": (100, 100, 1), "dtype": "uint8", "classes": list("abcdefghij")}


def build_model() -> keras.Model:
    """Raw pixels in, a probability for each letter out; 339946 weights."""
    model = keras.Sequential(
        [
            keras.Input((100, 100, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 5, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_data() -> tuple[NDArray[Any], NDArray[Any]]:
    """Give images uint8[n, 100, 100, 1] and labels int32[n] that no device has."""
    with np.load(Path(__file__).with_name("test.npz")) as held_out:
        return held_out["x"], held_out["y"]
