"""What a round's model took for what, kept beside it: counts by true class, then by predicted class."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from broker.contract import DataContract
from broker.monitor import MAX_CONFUSION_CLASSES
from host.files import write_atomic

SUFFIX = ".confusion.json"

Counts = list[list[int]]


def classes_to_count(contract: DataContract) -> tuple[str, ...]:
    """The task's classes, where it has some and not too many to look at; else none."""
    classes = contract.classes or ()
    return classes if len(classes) <= MAX_CONFUSION_CLASSES else ()


def count(predictions: Any, classes: int) -> Counts | None:  # noqa: ANN401  whatever a task file gives
    """Count what is true and what was predicted, rows of as many class indexes; None where they are not."""
    try:
        pairs = np.asarray(predictions)
    except ValueError:
        # Rows of different lengths.
        return None
    if pairs.dtype.kind not in "iu" or pairs.ndim != 2 or len(pairs) != 2 or not pairs.size:  # noqa: PLR2004
        return None
    if pairs.min() < 0 or pairs.max() >= classes:
        return None
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, tuple(pairs), 1)
    found: Counts = counts.tolist()
    return found


def write_confusion(model: Path, classes: Sequence[str], counts: Counts) -> None:
    """Put it beside `model`, a path without ending; a disk that does not take it is no reason to fail."""
    content = json.dumps({"classes": list(classes), "counts": counts}).encode() + b"\n"
    with contextlib.suppress(OSError):
        write_atomic(model.with_name(model.name + SUFFIX), content)
