"""From the updates in the spool to the next theta: verify each, add them in a fixed order, write it."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from aggregator.strategies.base import State, Strategy, blocks
from broker.layout import THETA_DTYPE, Layout, Theta
from broker.messages import RejectReason
from broker.names import Metrics
from broker.update import DELTA, open_update
from host.errors import DataError, StorageError, WireError
from host.files import publish_file, sync_file, write_atomic


@dataclass(frozen=True, slots=True)
class SpooledUpdate:
    """An accepted update in the spool."""

    device: str
    path: Path
    examples: int
    metrics: Metrics
    round: int = 0
    weight: float = 1.0
    """What each example counts: less than 1 in an update that is late."""


def verify(path: Path, layout: Layout, max_norm: float | None) -> RejectReason | None:
    """Say why an update must not be taken, or None; `max_norm` bounds the L2 norm of its delta, float32[P].

    Reads through a memory map, block by block, and stops at the first fault.
    """
    try:
        header, vectors = open_update(path)
    except WireError:
        return RejectReason.MALFORMED
    if header.layout != layout.digest or header.vectors != {DELTA: layout.size}:
        return RejectReason.LAYOUT
    return _verify_values(vectors[DELTA], math.inf if max_norm is None else max_norm)


def _verify_values(vector: Theta, max_norm: float) -> RejectReason | None:
    total = 0.0
    for block in blocks(len(vector)):
        values = vector[block].astype(np.float64)
        total += float(values @ values)
        # A float32 squared is finite in float64: the sum is not finite exactly if a value is not.
        if not math.isfinite(total):
            return RejectReason.NOT_FINITE
    return RejectReason.NORM if math.sqrt(total) > max_norm else None


def _as_it_lies(update: SpooledUpdate) -> AbstractContextManager[Path]:
    return nullcontext(update.path)


def aggregate(
    strategy: Strategy,
    layout: Layout,
    theta: Path,
    updates: Sequence[SpooledUpdate],
    out: Path,
    opened: Callable[[SpooledUpdate], AbstractContextManager[Path]] = _as_it_lies,
) -> str:
    """Write the next theta, raw float32[P], to `out` and return its digest.

    Updates are added in the order of their devices' names and rounds, so that the bits do not depend on who
    uploaded first; `opened` gives the readable file of a sealed one. The strategy's state is read from beside
    `theta` and written beside `out`, before it. Raises StorageError for a file that does not fit the layout,
    SealError for an update that does not open, DataError when the result is of the wrong shape or not finite.
    """
    strategy.state = _load_state(state_path(theta))
    strategy.begin(_map_theta(theta, layout), layout)
    for update in sorted(updates, key=lambda update: (update.device, update.round)):
        with opened(update) as path:
            _, vectors = open_update(path)
            strategy.add(vectors, update.examples * update.weight, update.metrics)
    with np.errstate(over="ignore", invalid="ignore"):
        result = strategy.finish()
    _check(result, layout)
    _save_state(state_path(out), strategy)
    digest = hashlib.sha256()
    write_atomic(out, _parts(result, digest))
    return digest.hexdigest()


def state_path(theta: Path) -> Path:
    """Where the strategy's state after this theta lies."""
    return theta.with_suffix(".state.npz")


def _map_theta(path: Path, layout: Layout) -> Theta:
    expected = layout.size * THETA_DTYPE.itemsize
    if not path.is_file() or path.stat().st_size != expected:
        raise StorageError(
            f"{path} is not the {expected} bytes of the run's theta: restore it, or start anew"
        )
    return np.memmap(path, THETA_DTYPE, "r")


def _check(result: Theta, layout: Layout) -> None:
    if result.shape != (layout.size,) or result.dtype != THETA_DTYPE:
        raise DataError(
            f"the strategy returned {result.dtype}{list(result.shape)} instead of float32[{layout.size}]"
        )
    if not all(np.isfinite(result[block]).all() for block in blocks(layout.size)):
        raise DataError("the aggregated model is not finite: an update was too large; set max_norm")


def _parts(result: Theta, digest: "hashlib._Hash") -> Iterator[bytes]:
    for block in blocks(len(result)):
        part = result[block].tobytes()
        digest.update(part)
        yield part


def _load_state(path: Path) -> State:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, BadZipFile) as error:
        raise StorageError(f"{path} is damaged: {error}; restore it, or start a new run") from error


def _save_state(path: Path, strategy: Strategy) -> None:
    if not strategy.state:
        return
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **strategy.state)
    sync_file(temporary)
    publish_file(temporary, path)
