"""A softmax regression of 2.6 million parameters, 10.4 MB, for the wire and not for learning.

Its runtime is that of tests/system/plugins/lab_runtime.py.
"""

import numpy as np
from numpy.typing import NDArray

INPUTS, CLASSES = 26_000, 100

runtime = "softmax"
data_contract = {"shape": (INPUTS,), "classes": [f"c{number}" for number in range(CLASSES)]}


def initial_theta() -> list[NDArray[np.float32]]:
    return [np.zeros((INPUTS, CLASSES), np.float32), np.zeros(CLASSES, np.float32)]


def program() -> str:
    return "0.25"
