"""Ledgers as aggregators leave them, written through the real ledger: runs of any size, with any trouble."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from aggregator.coordinator.phases import Decision, Phase
from aggregator.ledger import Ledger
from aggregator.records import (
    JSON,
    Course,
    Decided,
    Declined,
    Incident,
    IncidentKind,
    Record,
    Reported,
    RequestAnswered,
    RoundClosed,
    RoundOpened,
    RunEnded,
    RunPrepared,
    RunStarted,
    Transition,
    UpdateAccepted,
    UpdateRefused,
)
from aggregator.run_settings import RunSettings
from aggregator.runfolder import RunFolder
from broker.messages import BlobRef, DeclineReason, ReceiptOutcome, RejectReason
from broker.names import Metrics

THETA = BlobRef(digest="a" * 64, size=40_000, chunk_bytes=1024)
PROGRAM = BlobRef(digest="b" * 64, size=2000, chunk_bytes=1024)
BEGAN_UNIX_S = 1_790_000_000.0
REQUEST = "0" * 16


@dataclass
class Writer:
    """Writes rounds of a run; time goes on by what the rounds take."""

    folder: Path
    run: str = "digits-1"
    task: str = "digits"
    settings: dict[str, bool | int | float | str | None] = field(default_factory=dict)
    now: float = BEGAN_UNIX_S
    metric: str = "accuracy"
    seed: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.chance = np.random.default_rng(self.seed)
        self.ledger = Ledger(self.folder / "ledger.sqlite", clock=lambda: self.now)

    def begin(self) -> None:
        """Start the run and build its model."""
        settings = RunSettings.model_validate(self.settings).model_dump(mode="json")
        started = RunStarted(
            self.run, self.task, settings, seed=self.seed, request=REQUEST[:-1] + self.run[-1]
        )
        self.write(started, Transition(self.run, None, Phase.IDLE, Phase.PREPARING))
        answered = RequestAnswered(
            REQUEST[:-1] + self.run[-1], "ada", "start", {"task": self.task}, "- idle", self.run, b""
        )
        self.now += 4.0
        self.write(
            RunPrepared(self.run, THETA, PROGRAM, "e" * 64, 10_000),
            Transition(self.run, None, Phase.PREPARING, Phase.WAITING),
            answered,
        )

    def write(self, *records: Record) -> None:
        """Commit, all at one moment."""
        self.ledger.commit(records, None)

    def open(self, number: int, devices: Sequence[str], quorum: int = 1) -> None:
        """Select a cohort."""
        self.write(
            RoundOpened(self.run, number, tuple(devices), target=len(devices), quorum=quorum),
            Transition(self.run, number, Phase.WAITING, Phase.TRAINING),
        )

    def close(self, number: int, metrics: Metrics | None, federated: Metrics | None) -> None:
        """Complete a round."""
        self.write(Transition(self.run, number, Phase.TRAINING, Phase.AGGREGATING))
        self.now += 0.5
        self.write(Transition(self.run, number, Phase.AGGREGATING, Phase.EVALUATING))
        self.now += 1.0
        self.write(
            RoundClosed(self.run, number, "completed", "", THETA, metrics, federated),
            Transition(self.run, number, Phase.EVALUATING, Phase.WAITING),
        )

    def abandon(self, number: int, reason: str) -> None:
        """Give a round up."""
        self.write(
            RoundClosed(self.run, number, "abandoned", reason, THETA),
            Transition(self.run, number, Phase.TRAINING, Phase.WAITING),
        )

    def train(
        self, number: int, devices: Sequence[str], *, validated: bool = True, held_out: bool = True
    ) -> None:
        """A whole round: of every ten devices one declines, one is silent and one is refused."""
        self.open(number, devices)
        level = 1 - 0.85 * float(np.exp(-number / 6))
        records: list[Record] = []
        for place, device in enumerate(devices):
            records += self._part(number, place, device, level, validated=validated)
        self.now += 8.0
        self.write(*records)
        weight = 100.0
        federated = self._metrics(level * 0.97, weight) if validated else None
        self.close(number, self._metrics(level, weight) if held_out else None, federated)

    def _part(self, number: int, place: int, device: str, level: float, *, validated: bool) -> list[Record]:
        run, kind = self.run, (place + number) % 10
        fetched, trained = 0.4 + 0.05 * place % 1, 2.0 + 5 * float(self.chance.random())
        steps = [
            ("fetching", 0.1),
            ("training", fetched),
            ("uploading", trained),
            ("reported", trained + 0.6),
        ]
        if kind == 7:
            return [
                Declined(run, number, device, DeclineReason.DISK, "2 MB left"),
                self._course(number, device, steps[:1]),
            ]
        if kind == 8:
            return [
                Decided(run, number, device, Decision.LOST, "silent for 15 s"),
                self._course(number, device, [*steps[:2], ("lost", trained)]),
            ]
        if kind == 9:
            return [
                UpdateRefused(run, number, device, ReceiptOutcome.REJECTED, RejectReason.NOT_FINITE),
                self._course(number, device, steps[:3]),
            ]
        own, new = (level + float(self.chance.normal(0, 0.04)) for _ in range(2))
        validation = self._metrics(min(1.0, own * 0.95), 20.0) if validated else {}
        accepted = UpdateAccepted(
            run,
            number,
            device,
            f"{place:064x}",
            40_100,
            200 + 10 * place,
            {"loss": (30.0, 60.0)},
            validation,
            trained,
        )
        report: list[Record] = (
            [Reported(run, number, device, self._metrics(min(1.0, new), 20.0))] if validated else []
        )
        return [accepted, *report, self._course(number, device, [*steps, ("evaluating", 8.6)])]

    def _course(self, number: int, device: str, steps: Sequence[tuple[str, float]]) -> Course:
        return Course(self.run, number, device, tuple(steps), bytes_down=42_000)

    def _metrics(self, level: float, weight: float) -> Metrics:
        value = level if self.metric == "accuracy" else 3 * (1 - level) + 0.1
        return {self.metric: (value * weight, weight), "loss": (2 * (1.05 - level) * weight, weight)}

    def repeat(self, number: int, last: int) -> None:
        """Copy a round until there are so many: to write a hundred thousand updates one by one takes long."""
        connection = self.ledger._connection
        for table in ("rounds", "participants", "updates", "refusals", "reports", "declines", "courses"):
            columns = [row["name"] for row in connection.execute(f"PRAGMA table_info({table})")]
            copied = ", ".join("n.value" if name == "round" else name for name in columns)
            numbers = (
                "WITH RECURSIVE n(value) AS (VALUES (:begin) UNION ALL SELECT value + 1 FROM n LIMIT :more)"
            )
            copy = f"{numbers} INSERT INTO {table} SELECT {copied} FROM {table}, n WHERE round = :round"  # noqa: S608  our own names
            connection.execute(copy, {"begin": number + 1, "more": last - number, "round": number})

    def incident(self, detail: str) -> None:
        """Note a mishap."""
        self.write(Incident(IncidentKind.NO_ROOM, self.run, 1, "spool", detail))

    def end(self, outcome: str = "finished", reason: str = "") -> None:
        """End the run."""
        self.write(RunEnded(self.run, outcome, reason), Transition(self.run, None, Phase.WAITING, Phase.IDLE))

    def files(self, classes: Sequence[str] | None = None, confusion: int | None = None) -> RunFolder:
        """Write run.toml, and a confusion matrix of a round."""
        run = RunFolder(self.folder / "runs", self.run)
        contract: dict[str, JSON] = {"shape": [8, 8], "dtype": "uint8", "target_shape": []}
        contract |= {"classes": [*classes]} if classes else {}
        run.write_manifest({"run": self.run, "contract": contract})
        if classes and confusion is not None:
            counts = self.chance.integers(0, 4, (len(classes), len(classes))) + 40 * np.eye(
                len(classes), dtype=int
            )
            document = {"classes": [*classes], "counts": counts.tolist()}
            run.round_model(confusion).with_suffix(".confusion.json").write_text(json.dumps(document))
        return run

    def shut(self) -> None:
        """Close the ledger, as an aggregator does when it ends."""
        self.ledger.close()


def devices_of(count: int) -> list[str]:
    """Names of so many devices."""
    return [f"pi-{place:03}" for place in range(1, count + 1)]


def trained(folder: Path, rounds: int = 6) -> None:
    """A finished run of twelve devices with every kind of trouble, and its folder."""
    for name, content in _trained(rounds).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@cache
def _trained(rounds: int) -> Mapping[str, bytes]:
    """Its files, written once."""
    with TemporaryDirectory() as name:
        _train(Path(name), rounds)
        paths = [path for path in Path(name).rglob("*") if path.is_file()]
        return {str(path.relative_to(name)): path.read_bytes() for path in paths}


def _train(folder: Path, rounds: int) -> None:
    writer = Writer(folder, settings={"rounds": rounds, "epochs": 3})
    with closing(writer.ledger):
        names = devices_of(12)
        writer.begin()
        for number in range(1, rounds + 1):
            if number == 3:
                writer.open(3, names, quorum=len(names))
                writer.now += 20.0
                writer.abandon(3, "the deadline came with 2 of 6 updates")
            else:
                writer.train(number, names)
        writer.incident("no space left on device")
        writer.end(reason=f"{rounds} rounds")
        writer.files([str(digit) for digit in range(10)], confusion=rounds)
