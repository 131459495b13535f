"""`theta`, a model's weights as one vector `float32[P]`, and the Layout that maps it to the layers.

Trainable weights come first, then the other state (BatchNorm statistics). Entries are known by position
and shape, never by a path, which changes when a model is built again.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field

THETA_DTYPE = np.dtype("<f4")
Theta = NDArray[np.float32]
# NumPy's own bound. Without one, a size of a few megabytes of digits takes minutes to compute.
MAX_RANK = 64
# A complaint of each wrong extent would take a hundred times the memory of the extent.
Shape = Annotated[tuple[int, ...], Field(max_length=MAX_RANK), FailFast()]
Shapes = Annotated[tuple[Shape, ...], Field(max_length=4096), FailFast()]


@dataclass(frozen=True)
class Entry:
    """One weight: where it lies in theta (in elements) and its shape."""

    shape: tuple[int, ...]
    offset: int
    trainable: bool

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


class Layout(BaseModel):
    """The shapes of a model's weights, in the order of theta."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainable: Shapes
    state: Shapes = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every weight with its offset."""
        entries, offset = [], 0
        for shape, trainable in [(s, True) for s in self.trainable] + [(s, False) for s in self.state]:
            entries.append(Entry(shape, offset, trainable))
            offset += math.prod(shape)
        return tuple(entries)

    @property
    def size(self) -> int:
        """P, the length of theta."""
        return self.trainable_size + sum(math.prod(shape) for shape in self.state)

    @property
    def trainable_size(self) -> int:
        """How many elements of theta, counted from its start, are trained."""
        return sum(math.prod(shape) for shape in self.trainable)

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical JSON, as hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def flatten(self, weights: Sequence[NDArray[np.float32]]) -> Theta:
        """Join weights, in the order of the entries, to theta: float32[P]; raises ValueError on a misfit."""
        theta = np.empty(self.size, THETA_DTYPE)
        for entry, weight in zip(self.entries, weights, strict=True):
            if weight.shape != entry.shape:
                raise ValueError(f"weight of shape {weight.shape} where the layout has {entry.shape}")
            theta[entry.offset : entry.offset + entry.size] = weight.ravel()
        return theta

    def unflatten(self, theta: Theta) -> list[NDArray[np.float32]]:
        """Cut theta, float32[P], into views of the weights' shapes; raises ValueError on a wrong length."""
        if theta.shape != (self.size,):
            raise ValueError(f"theta has shape {theta.shape} where the layout has ({self.size},)")
        return [theta[e.offset : e.offset + e.size].reshape(e.shape) for e in self.entries]
