"""Which examples are kept for validation: a question of their content, not of chance or order."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.data.examples import AnyArray, Examples


class Split(NamedTuple):
    """Training and validation examples, views of one array each."""

    training: Examples
    validation: Examples


def split(examples: Examples, fraction: float) -> Split:
    """Put about `fraction` of the examples aside.

    An example stays on its side when others come or go, and equal inputs lie on one side.
    The training side is never empty.
    """
    hashes = _hashes(examples.x)
    aside = hashes < np.uint64(int(fraction * float(1 << 64)))
    if aside.all():
        aside = hashes != hashes.max()
    order = np.argsort(aside, kind="stable")
    cut = len(aside) - int(np.count_nonzero(aside))
    x, y = examples.x[order], examples.y[order]
    return Split(Examples(x[:cut], y[:cut]), Examples(x[cut:], y[cut:]))


def _hashes(x: AnyArray) -> NDArray[np.uint64]:
    """Evenly spread over uint64, whatever the content: (n,)."""
    digests = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in x)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), np.uint64, len(x))
