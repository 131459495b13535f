"""A run computed again from the ledger: every counted update trained anew, every mean taken anew.

Updates are deleted when they are aggregated, but each follows bit by bit from theta, the device's examples
and the round's seed. One that is trained again, and has the digest that the ledger has, is the update that
the device sent; the next theta then has to be, bit by bit, the mean of exactly these.
"""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.coordinator.cohort import round_seed
from aggregator.run_settings import RunSettings
from broker.layout import THETA_DTYPE, Theta
from broker.update import DELTA, open_update
from edge_agent.seeds import derive_seed
from edge_agent.trainer import Trainer
from host.files import file_digest
from tests.chaos.books import Receipt, rows

Row = Mapping[str, Any]


@dataclass
class Replay:
    """What a run's books say, and where they contradict each other or the arithmetic."""

    run: str
    rounds: int = 0
    abandoned: int = 0
    updates: int = 0
    violations: list[str] = field(default_factory=list)

    def blame(self, what: str) -> None:
        self.violations.append(f"{self.run}: {what}")


class Replayer:
    """Computes runs again that an aggregator has in `folder`; `data` says where a device's examples lie."""

    def __init__(self, folder: Path, data: Callable[[str], Path], scratch: Path) -> None:
        self._folder = folder
        self._ledger = folder / "ledger.sqlite"
        self._data = data
        self._update = scratch / "replayed.update"
        self._trainer = Trainer()

    def replay(self, run: str, acknowledged: Iterable[Receipt]) -> Replay:
        """Compute a finished run again; `acknowledged` are the acceptances that devices know of."""
        found = Replay(run)
        about = rows(self._ledger, "SELECT * FROM runs WHERE run = ?", run)[0]
        settings = RunSettings.model_validate(json.loads(about["settings"]))
        digest = json.loads(about["theta"])["digest"]
        counted: set[tuple[int, str]] = set()
        for row in rows(self._ledger, "SELECT * FROM rounds WHERE run = ? ORDER BY round", run):
            updates = self._updates(run, row["round"])
            counted |= {(row["round"], update["device"]) for update in updates}
            digest = self._round(found, settings, row, digest, updates)
        for receipt in sorted(acknowledged):
            if (receipt.round, receipt.device) not in counted:
                found.blame(f"{receipt.device} was told that round {receipt.round} counts it: it does not")
        self._check_end(found, settings, digest)
        return found

    def _updates(self, run: str, number: int) -> list[dict[str, Any]]:
        query = "SELECT * FROM updates WHERE run = ? AND round = ? ORDER BY device"
        return rows(self._ledger, query, run, number)

    def _round(
        self, found: Replay, settings: RunSettings, row: Row, before: str, updates: list[dict[str, Any]]
    ) -> str:
        """Compute a round again from its first theta; the digest of its last one, as the ledger has it."""
        number, after = row["round"], json.loads(row["theta"])["digest"]
        if row["outcome"] == "abandoned":
            found.blame(f"round {number} is abandoned: {row['reason']}")
            found.abandoned += 1
            expected = before
        else:
            expected = self._mean(found, settings, number, before, updates)
            found.rounds += 1
            found.updates += len(updates)
        if after != expected:
            found.blame(f"round {number} ended with theta {after[:16]}, computed is {expected[:16]}")
        if row["outcome"] == "unevaluated":
            found.blame(f"round {number} is unevaluated: {row['reason']}")
        return str(after)

    def _mean(
        self, found: Replay, settings: RunSettings, number: int, before: str, updates: list[dict[str, Any]]
    ) -> str:
        """Digest of theta and the weighted mean: float64, in the order of devices' names, as FedAvg says."""
        path = self._theta(found.run, before)
        if path is None or not updates:
            found.blame(f"round {number} has {len(updates)} updates, and its first theta in {path}")
            return before
        theta = np.fromfile(path, THETA_DTYPE)
        total, weight = np.zeros(len(theta)), 0.0
        for row in updates:
            delta = self._train(found, settings, number, path, row)
            total += np.multiply(delta, float(row["examples"]), dtype=np.float64)
            weight += float(row["examples"])
        mean: Theta = (theta + total / weight).astype(THETA_DTYPE)
        return hashlib.sha256(mean.tobytes()).hexdigest()

    def _train(self, found: Replay, settings: RunSettings, number: int, theta: Path, row: Row) -> Theta:
        """One device's update, float32[P], from the agent's own trainer."""
        device, folder = row["device"], self._folder / "runs" / found.run
        manifest = tomllib.loads((folder / "run.toml").read_text())
        training = settings.training(round_seed(settings.seed, number), found.rounds)
        seed = derive_seed(training.seed, number, device)
        request = {
            "verb": "train",
            "data": {"kind": "npz", "path": str(self._data(device))},
            "runtime": "softmax",
            "program": str(folder / "program.json"),
            "theta": str(theta),
            "layout": manifest["digests"]["layout"],
            "contract": manifest["contract"],
            "settings": training.model_copy(update={"seed": seed}).model_dump(mode="json"),
            "update": str(self._update),
            "state": str(self._update.with_suffix(".state")),
        }
        said: list[Row] = []
        self._trainer.handle(request, said.append)
        assert said[-1]["event"] == "trained", said[-1]
        if (digest := file_digest(self._update)) != row["digest"] or said[-1]["examples"] != row["examples"]:
            found.blame(f"round {number}: {device} trains to {digest[:16]}, counted is {row['digest'][:16]}")
        return np.array(open_update(self._update)[1][DELTA])

    def _theta(self, run: str, digest: str) -> Path | None:
        paths = (self._folder / "runs" / run / "theta").glob("*.f32")
        return next((path for path in paths if file_digest(path) == digest), None)

    def _check_end(self, found: Replay, settings: RunSettings, digest: str) -> None:
        """What a user takes away is the last theta."""
        folder = self._folder / "runs" / found.run
        if found.rounds != settings.rounds:
            found.blame(f"{found.rounds} rounds are completed, {settings.rounds} were asked for")
        with np.load(folder / "model.npz") as model:
            weights = np.concatenate([model[name].ravel() for name in model.files]).astype(THETA_DTYPE)
        if hashlib.sha256(weights.tobytes()).hexdigest() != digest or self._theta(found.run, digest) is None:
            found.blame(f"the run's folder does not hold theta {digest[:16]}, which is its last")
        history = json.loads((folder / "history.json").read_text())
        if len(history) != (closed := found.rounds + found.abandoned):
            found.blame(f"history.json has {len(history)} rounds, the ledger {closed}")
