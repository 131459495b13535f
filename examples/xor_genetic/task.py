"""XOR for the runtime `genetic`: a network of one hidden layer, without Keras and without a gradient."""

import json

import numpy as np
from numpy.typing import NDArray

runtime = "genetic"
data_contract = {"shape": (2,), "dtype": "float32", "classes": ["0", "1"]}

HIDDEN = 16
X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
Y = np.array([0, 1, 1, 0])


def initial_theta() -> list[NDArray[np.float32]]:
    """Weights and biases of both layers, drawn from the run's seed."""
    shapes = [(2, HIDDEN), (HIDDEN,), (HIDDEN, 2), (2,)]
    return [np.random.normal(size=shape).astype(np.float32) for shape in shapes]  # noqa: NPY002  midge seeds it


def program() -> str:
    """What the runtime reads: see Breeding in runtime/midge_genetic.py."""
    return json.dumps({"inputs": 2, "hidden": HIDDEN, "classes": 2})


def evaluate(weights: list[NDArray[np.float32]]) -> dict[str, tuple[float, float]]:
    """How many of the four possible inputs come out right."""
    inner, inner_bias, outer, outer_bias = weights
    scores = np.maximum(X @ inner + inner_bias, 0) @ outer + outer_bias
    return {"accuracy": (float((scores.argmax(axis=1) == Y).sum()), float(len(Y)))}
