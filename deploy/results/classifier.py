"""A trained classifier read from its file, with the names of its classes."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host.errors import ConfigError, DataError

MANIFEST = "run.toml"
BINARY = 2


@dataclass(frozen=True)
class Classifier:
    """A model that gives each class a probability."""

    model: Any
    shape: tuple[int, ...]
    classes: tuple[str, ...]

    def probabilities(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities float64[n, classes] of inputs [n, *shape]; raises DataError."""
        return _as_probabilities(_inference().outputs_of(self.model, x))


def open_classifier(path: Path) -> Classifier:
    """Read a `.keras` file; class names come from the run's `run.toml`, if it lies there, else are numbers.

    Raises DataError, or ConfigError where TensorFlow is not installed.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; give the path of a .keras model")
    model = _inference().load_model(path)
    shape = tuple(model.input_shape[1:])
    if any(extent is None for extent in shape):
        raise DataError(f"{path}: the model takes inputs of any size {shape}, so nothing can be fitted to it")
    outputs = max(BINARY, math.prod(model.output_shape[1:]))
    return Classifier(model, shape, _class_names(path, outputs) or tuple(map(str, range(outputs))))


def _inference() -> ModuleType:
    try:
        from aggregator.keras import inference  # noqa: PLC0415  TensorFlow takes seconds to load
    except ModuleNotFoundError as error:
        if error.name not in ("keras", "tensorflow"):
            raise
        raise ConfigError("reading a model takes TensorFlow: pip install 'midge[aggregator]'") from None
    return inference


def _class_names(path: Path, outputs: int) -> tuple[str, ...] | None:
    """Look beside the model, and one folder up: a round's model lies in `models/`."""
    for folder in path.absolute().parents[:2]:
        if (folder / MANIFEST).is_file():
            try:
                manifest = tomllib.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return None
            found = _find(manifest, "classes")
            if isinstance(found, list) and len(found) == outputs:
                return tuple(map(str, found))
    return None


def _find(table: dict[str, Any], key: str) -> object:
    if key in table:
        return table[key]
    inner = (_find(value, key) for value in table.values() if isinstance(value, dict))
    return next((value for value in inner if value is not None), None)


def _as_probabilities(outputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Take outputs as they are when they are probabilities already, else as logits."""
    values = outputs.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("the model gives values that are not finite: its training diverged")
    if values.shape[1] == 1:
        within = bool(((values >= 0) & (values <= 1)).all())
        second = values if within else 1 / (1 + np.exp(-values))
        return np.hstack([1 - second, second])
    if bool((values >= 0).all()) and np.allclose(values.sum(axis=1), 1, atol=1e-3):
        return values
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
