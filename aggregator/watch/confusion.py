"""The confusion matrix that an evaluation left beside the model of its round."""

import logging
from pathlib import Path

from pydantic import BaseModel

from aggregator.confusion import SUFFIX
from broker.monitor import MAX_CONFUSION_CLASSES, MAX_DOCUMENT_BYTES, ConfusionDocument

log = logging.getLogger(__name__)


class _File(BaseModel):
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def confusion_path(runs: Path, run: str, round_: int) -> Path:
    """Where it lies, where there is one."""
    return runs / run / "models" / f"round-{round_:04}{SUFFIX}"


def read_confusion(runs: Path, run: str, round_: int) -> ConfusionDocument | None:
    """Read it; None where there is none, or none that can be shown."""
    path = confusion_path(runs, run, round_)
    try:
        found = _read(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s is not shown: %s", path, error)
        return None
    return ConfusionDocument(run=run, round=round_, classes=found.classes, counts=found.counts)


def _read(path: Path) -> _File:
    if (size := path.stat().st_size) > MAX_DOCUMENT_BYTES:
        raise ValueError(f"it has {size:,} bytes, shown are up to {MAX_DOCUMENT_BYTES:,}")
    found = _File.model_validate_json(path.read_bytes())
    classes, rows = len(found.classes), found.counts
    if classes > MAX_CONFUSION_CLASSES:
        raise ValueError(f"it has {classes} classes, shown are up to {MAX_CONFUSION_CLASSES}")
    if len(rows) != classes or any(len(row) != classes for row in rows):
        raise ValueError(f"its counts are not {classes} by {classes}")
    return found
