"""MNIST: handwritten digits of 28 x 28 pixels, white on black. A network of one hidden layer.

The held-out examples are those of `test.npz` beside this file. `midge demo --data DIR` trains this task, too.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

data_contract = {"shape": (28, 28), "dtype": "uint8", "classes": [str(digit) for digit in range(10)]}

# What one device in three never sees.
LACKING = ((1, 3, 7), (2, 5, 8), (4, 6, 9))


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


def test_data() -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Give images uint8[n, 28, 28] and labels int32[n] that no device has; then those each device lacks."""
    with np.load(Path(__file__).with_name("test.npz")) as held_out:
        x, y = held_out["x"], held_out["y"]
    sets = {"all": (x, y)}
    for digits in LACKING:
        chosen = np.isin(y, digits)
        # A small try may hold none of them out.
        if chosen.any():
            sets[", ".join(map(str, digits))] = (x[chosen], y[chosen])
    return sets
