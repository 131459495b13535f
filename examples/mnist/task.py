"""MNIST: handwritten digits of 28 x 28 pixels, white on black. A network of one hidden layer.

`midge demo --data DIR` trains this task. The held-out examples are those of `test.npz` beside this file.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

data_contract = {"shape": (28, 28), "dtype": "uint8", "classes": [str(digit) for digit in range(10)]}


def build_model() -> keras.Model:
    """Raw pixels in, a probability for each digit out."""
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            keras.layers.Flatten(),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def test_data() -> tuple[NDArray[Any], NDArray[Any]]:
    """Give images uint8[n, 28, 28] and labels int32[n] that no device has."""
    with np.load(Path(__file__).with_name("test.npz")) as held_out:
        return held_out["x"], held_out["y"]
