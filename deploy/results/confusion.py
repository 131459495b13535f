"""What was taken for what."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.int64]


def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Matrix:
    """Count examples by true class (row) and predicted class (column): int64[classes, classes]."""
    counts = np.bincount(truth.astype(np.int64) * classes + predicted, minlength=classes * classes)
    return counts.astype(np.int64).reshape(classes, classes)


def accuracy(matrix: Matrix, among: Sequence[int] | None = None) -> float | None:
    """Part of the examples that were predicted right, of the true classes named; None without any."""
    rows = list(range(len(matrix))) if among is None else list(among)
    total = int(matrix[rows].sum())
    return float(matrix[rows, rows].sum() / total) if total else None
