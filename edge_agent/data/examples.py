"""A device's examples in memory, and what can be said of them without a task."""

from typing import Any, NamedTuple

from numpy.typing import NDArray

from host.errors import DataError

AnyArray = NDArray[Any]
# As many as a data contract may have classes.
MAX_LABELS = 4096


class Examples(NamedTuple):
    """Inputs and their labels or targets, of equal length."""

    x: AnyArray
    """Of the contract's dtype: (n, *shape)."""
    y: AnyArray
    """int32 (n,) that index the contract's classes; without classes float32 (n, *target_shape)."""


class Inspection(NamedTuple):
    """What a source holds, read as cheaply as it can be."""

    examples: int
    shape: tuple[int, ...]
    labels: dict[str, int]
    """How many examples each label has; empty for targets that are no labels."""


def check_size(needed: int, limit: int, what: str) -> None:
    """Raise DataError, before anything is allocated, when `needed` bytes are more than the setting allows."""
    if needed > limit:
        raise DataError(
            f"{what}: {needed} bytes, but max_bytes allows {limit}; raise max_bytes or use less data"
        )
