"""How many examples each label has."""

from collections import Counter

import numpy as np

from edge_agent.data.examples import MAX_LABELS, AnyArray


def label_counts(labels: AnyArray) -> dict[str, int]:
    """Count labels that are whole numbers or text; empty when they look like targets of a regression."""
    if labels.dtype.kind not in "iubU" or labels.size != len(labels):
        return {}
    values, counts = np.unique(labels, return_counts=True)
    if len(values) > MAX_LABELS:
        return {}
    return {str(value): int(count) for value, count in zip(values, counts, strict=True)}


def text_counts(counts: Counter[str]) -> dict[str, int]:
    """The same for texts that were counted already; numbers with a fraction are no labels."""
    if len(counts) > MAX_LABELS or any(_is_fraction(text) for text in counts):
        return {}
    return dict(sorted(counts.items()))


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except ValueError:
        return False
