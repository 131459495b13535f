"""A task that trains in no time: three blobs in four dimensions; the environment can slow it down."""

import os
import time
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

data_contract = {"shape": (4,), "dtype": "float32", "classes": ["red", "green", "blue"]}


def build_model() -> keras.Model:
    time.sleep(float(os.environ.get("LAB_BUILD_S", "0")))
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_data() -> tuple[NDArray[Any], NDArray[Any]]:
    chance = np.random.default_rng(99)
    y = np.repeat(np.arange(3), 50).astype(np.int32)
    centres = np.array([[2, 0, 0, 1], [0, 2, 0, -1], [0, 0, 2, 0]], np.float32)
    return (centres[y] + chance.normal(0, 0.7, (150, 4))).astype(np.float32), y
