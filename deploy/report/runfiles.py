"""What a run's folder adds to its ledger: versions, the data contract, the confusion matrix."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MANIFEST = "run.toml"
MAX_MANIFEST_BYTES = 1 << 20
MAX_CONFUSION_BYTES = 16 << 20
MAX_CLASSES = 1000
_CONFUSION = re.compile(r"round-([0-9]{4,7})\.confusion\.json")


class _Counts(BaseModel):
    model_config = ConfigDict(extra="ignore")

    classes: list[str] = Field(min_length=1, max_length=MAX_CLASSES)
    counts: list[list[int]]

    @model_validator(mode="after")
    def _square(self) -> "_Counts":
        if [len(row) for row in self.counts] != [len(self.classes)] * len(self.classes):
            raise ValueError("not a row and a column for each class")
        return self


@dataclass(frozen=True, slots=True)
class Confusion:
    """Examples of a round's evaluation: int64[classes, classes], by true, then by predicted class."""

    round: int
    classes: tuple[str, ...]
    matrix: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Empty where the folder or a file of it is missing, or cannot be read."""

    manifest: Mapping[str, Any] = field(default_factory=dict)
    confusion: Confusion | None = None

    def table(self, name: str) -> Mapping[str, Any]:
        """A table of run.toml."""
        found = self.manifest.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def classes(self) -> bool | None:
        """Whether the task has classes; None where that is not known."""
        return bool(self.table("contract").get("classes")) if self.table("contract") else None


def read_run_files(folder: Path) -> RunFiles:
    """Read what there is in `runs/RUN`."""
    return RunFiles(_manifest(folder / MANIFEST), _newest_confusion(folder / "models"))


def _manifest(path: Path) -> dict[str, Any]:
    text = _text(path, MAX_MANIFEST_BYTES)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _newest_confusion(models: Path) -> Confusion | None:
    found = [(_CONFUSION.fullmatch(path.name), path) for path in models.glob("*.confusion.json")]
    for number, path in sorted(((int(match[1]), path) for match, path in found if match), reverse=True):
        try:
            counts = _Counts.model_validate_json(_text(path, MAX_CONFUSION_BYTES))
            return Confusion(number, tuple(counts.classes), np.array(counts.counts, np.int64))
        except (ValidationError, OverflowError):
            continue
    return None


def _text(path: Path, most: int) -> str:
    """The content; empty where it is not there, or larger than it can be."""
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= most else ""
    except (OSError, ValueError):
        return ""
