"""A run's folder: all that a user takes away, and all that another run may begin from.

runs/<run>/run.toml                  resolved settings, seed, versions, digests
runs/<run>/history.json              one entry a closed round
runs/<run>/program.json              what devices train with
runs/<run>/theta/round-0007.f32      the weights after round 7, raw float32[P]; round 0 is the start
runs/<run>/models/round-0007.keras   the model after round 7
runs/<run>/models/round-0007.confusion.json   where there are classes: what it takes for what, by true class
runs/<run>/model.keras               the newest of these

The model files of a task without Keras end in `.npz`: they hold its weights, arr_0, arr_1 and so on.
"""

import json
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from aggregator.aggregate import state_path
from aggregator.confusion import SUFFIX as CONFUSION_SUFFIX
from aggregator.ledger_rows import RoundRow
from aggregator.records import JSON
from aggregator.toml import to_toml
from broker.monitor import means
from broker.names import ID_PATTERN
from host.errors import ConfigError, StorageError
from host.files import file_digest, publish_file, sync_file, write_atomic

_PACKAGES = ("midge", "numpy", "tensorflow", "keras")
_MODEL_SUFFIXES = (".keras", ".npz")
_ROUND = re.compile(r"round-([0-9]{4,})")


class RunFolder:
    """The folder of one run, made when it is first named."""

    def __init__(self, runs: Path, run: str) -> None:
        self.path = runs / run
        self.manifest = self.path / "run.toml"
        self.history = self.path / "history.json"
        self.program = self.path / "program.json"
        for folder in (self.path / "theta", self.path / "models"):
            folder.mkdir(parents=True, exist_ok=True)

    def theta(self, round_: int) -> Path:
        """Where the weights after a round lie, raw float32[P]."""
        return self.path / "theta" / f"round-{round_:04}.f32"

    def round_model(self, round_: int) -> Path:
        """Where the model after a round lies, without its ending: what that is depends on the task."""
        return self.path / "models" / f"round-{round_:04}"

    def confusion(self, round_: int) -> Path:
        """Where it may lie what the model after a round takes for what, on held-out data."""
        return self.path / "models" / f"round-{round_:04}{CONFUSION_SUFFIX}"

    def theta_with(self, digest: str) -> Path:
        """Find the newest weights with this SHA-256; raises StorageError when they are gone or damaged.

        A crash can leave the weights of a round that was never closed: only the digest tells which count.
        """
        for _, path in reversed(_rounds(self.path / "theta", ".f32")):
            if file_digest(path) == digest:
                return path
        raise StorageError(f"{self.path}/theta has no weights with digest {digest}: restore them")

    def write_manifest(self, about: Mapping[str, JSON]) -> None:
        """Write run.toml: `about` (settings, seed, digests; as tables), and the versions that made it."""
        write_atomic(self.manifest, to_toml({**about, "versions": versions()}).encode())

    def write_history(self, rounds: Sequence[RoundRow]) -> None:
        """Write history.json anew from the ledger's rounds; open ones are left out."""
        closed = [_entry(row) for row in rounds if row.outcome is not None]
        write_atomic(self.history, json.dumps(closed, indent=1, allow_nan=False).encode() + b"\n")

    def publish_model(self, round_model: Path) -> None:
        """Make model.keras (or .npz) the model of this round; a reader sees the old or the new one, whole."""
        model = self.path / f"model{round_model.suffix}"
        temporary = model.with_name(f".{model.name}.tmp")
        temporary.unlink(missing_ok=True)
        try:
            os.link(round_model, temporary)
        except OSError:
            # Not every file system of a memory card or network share has hard links.
            shutil.copyfile(round_model, temporary)
        sync_file(temporary)
        publish_file(temporary, model)
        # Renaming one link of a file to another of the same file does nothing (POSIX).
        temporary.unlink(missing_ok=True)

    def prune(self, keep: int) -> None:
        """Keep the weights and models of round 0 and of the newest `keep` rounds."""
        for round_, path in _rounds(self.path / "theta", ".f32")[:-keep]:
            if round_ > 0:
                path.unlink()
                state_path(path).unlink(missing_ok=True)
        for suffix in _MODEL_SUFFIXES:
            for round_, path in _rounds(self.path / "models", suffix)[:-keep]:
                if round_ > 0:
                    path.unlink()
                    self.confusion(round_).unlink(missing_ok=True)


def resolve_start(runs: Path, start: str) -> Path:
    """Find the model that a run is to begin from: a `.keras` or `.npz` file, or an earlier run's newest.

    Raises ConfigError when there is none.
    """
    if start.endswith(_MODEL_SUFFIXES):
        return _existing(Path(start).expanduser(), "no model file")
    if not re.fullmatch(ID_PATTERN, start):
        raise ConfigError(
            f"cannot begin from {start!r}: give a run's id or the path of a .keras or .npz file"
        )
    models = [runs / start / f"model{suffix}" for suffix in _MODEL_SUFFIXES]
    model = next((model for model in models if model.is_file()), models[0])
    return _existing(model, f"run {start!r} has no model")


def versions() -> dict[str, str]:
    """Name the versions of Python and of the packages that matter to a result, where installed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _existing(path: Path, otherwise: str) -> Path:
    if not path.is_file():
        raise ConfigError(f"{otherwise}: there is no file {path}")
    return path


def _rounds(folder: Path, suffix: str) -> list[tuple[int, Path]]:
    found = [(_ROUND.fullmatch(path.stem), path) for path in folder.iterdir() if path.suffix == suffix]
    return sorted((int(match[1]), path) for match, path in found if match)


def _entry(row: RoundRow) -> dict[str, Any]:
    return {
        "round": row.round,
        "outcome": row.outcome,
        "reason": row.reason,
        "participants": row.participants,
        "accepted": row.accepted,
        "bytes_up": row.bytes_up,
        "bytes_down": row.bytes_down,
        "metrics": means(row.metrics),
        "federated": means(row.federated),
        "seconds": round((row.closed_unix_s or row.opened_unix_s) - row.opened_unix_s, 3),
    }
