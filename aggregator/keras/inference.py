"""A saved model put to use: `.keras` file in, outputs out."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aggregator.keras.determinism import keras
from aggregator.keras.weights import Model
from host.errors import DataError, first_line

BATCH = 256


def load_model(path: Path) -> Model:
    """Read a `.keras` file, in safe mode: nothing in it is run; raises DataError."""
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # noqa: BLE001  Keras raises whatever a damaged file leads to
        raise DataError(f"{path}: no Keras model that can be read: {first_line(error)}"[:300]) from None
    if not isinstance(getattr(model, "input_shape", None), tuple):
        raise DataError(f"{path}: the model has more than one input; use Keras itself for it")
    return model


def outputs_of(model: Model, x: NDArray[Any]) -> NDArray[np.float32]:
    """Outputs for n inputs: float32[n, outputs]; raises DataError when each is more than one row."""
    outputs = np.asarray(model.predict(x, batch_size=BATCH, verbose=0), np.float32)
    if outputs.ndim != 2:  # noqa: PLR2004  examples and outputs
        raise DataError(
            f"the model gives shape {outputs.shape[1:]} an example, not one row; it is no classifier"
        )
    return outputs
