"""Random batches that a model can be tried on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.keras.litert.objective import Loss
from aggregator.keras.litert.rebuild import parts
from aggregator.keras.program import description
from aggregator.keras.weights import Model

Batch = tuple[NDArray[Any], NDArray[Any]]
BYTE = 256


@dataclass(frozen=True)
class Samples:
    """Draws batches of one shape, always the same ones."""

    model: Model
    loss: Loss

    def draw(self, rows: int, seed: int) -> Batch:
        """Inputs and labels or targets for `rows` rows."""
        random = np.random.default_rng(seed)
        return self._inputs(random, rows), self._targets(random, rows)

    def _inputs(self, random: np.random.Generator, rows: int) -> NDArray[Any]:
        shape: tuple[int, ...] = (rows, *self.model.input_shape[1:])
        dtype: np.dtype[Any] = np.dtype(self.model.inputs[0].dtype)
        indexes: list[int] = [
            part["input_dim"] for part in parts(description(self.model)) if "input_dim" in part
        ]
        whole = indexes or dtype != np.float32
        values = random.integers(0, min([BYTE, *indexes]), shape) if whole else random.normal(size=shape)
        return values.astype(dtype)

    def _targets(self, random: np.random.Generator, rows: int) -> NDArray[Any]:
        """Labels, or targets of 0 and 1 of which one in each row is 1: every loss takes them."""
        outputs = self.model.output_shape[1:]
        places = random.integers(0, max(2, outputs[-1]), (rows, *outputs[:-1]))
        if self.loss.classes:
            return places.astype(np.int32)
        targets: NDArray[Any] = places[..., None] == np.arange(outputs[-1])
        return targets.astype(np.float32)
