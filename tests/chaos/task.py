"""What chaos trains: a softmax regression of some chunks' size, for the runtime in tests/system/plugins."""

import numpy as np
from numpy.typing import NDArray

INPUTS, CLASSES = 512, 3

runtime = "softmax"
data_contract = {"shape": (INPUTS,), "classes": ["red", "green", "blue"]}


def initial_theta() -> list[NDArray[np.float32]]:
    return [np.zeros((INPUTS, CLASSES), np.float32), np.zeros(CLASSES, np.float32)]


def program() -> str:
    return "0.05"


def evaluate(weights: list[NDArray[np.float32]]) -> dict[str, tuple[float, float]]:
    x, y = examples(150, seed=99)
    found = (x @ weights[0] + weights[1]).argmax(axis=1)
    return {"accuracy": (float((found == y).sum()), float(len(y)))}


def examples(count: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Blobs around the same three centres for every seed."""
    centres = np.random.default_rng(0).normal(0, 0.2, (CLASSES, INPUTS))
    chance = np.random.default_rng(seed)
    y = chance.integers(0, CLASSES, count).astype(np.int32)
    return (centres[y] + chance.normal(0, 1, (count, INPUTS))).astype(np.float32), y
