"""A task without Keras, for the runtime in plugins/lab_runtime.py: three blobs in four dimensions.

The environment can slow it down.
"""

import os
import time

import numpy as np
from numpy.typing import NDArray

runtime = "softmax"
data_contract = {"shape": (4,), "classes": ["red", "green", "blue"]}


def initial_theta() -> list[NDArray[np.float32]]:
    """Each class mistaken for the others: there is a way to go, longer than a round."""
    time.sleep(float(os.environ.get("LAB_BUILD_S", "0")))
    return [-np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32)]


def program() -> str:
    return "0.25"


Evaluated = tuple[dict[str, tuple[float, float]], tuple[NDArray[np.int64], NDArray[np.int64]]]


def evaluate(weights: list[NDArray[np.float32]]) -> Evaluated:
    chance = np.random.default_rng(99)
    y = np.repeat(np.arange(3), 50)
    centres = np.array([[2, 0, 0, 1], [0, 2, 0, -1], [0, 0, 2, 0]])
    x = centres[y] + chance.normal(0, 0.7, (150, 4))
    scores = x @ weights[0] + weights[1]
    found, right = scores.argmax(axis=1), scores[np.arange(len(y)), y]
    surprise = np.logaddexp.reduce(scores, axis=1) - right
    metrics = {"loss": float(surprise.sum()), "accuracy": float((found == y).sum())}
    return {name: (value, float(len(y))) for name, value in metrics.items()}, (y, found)
