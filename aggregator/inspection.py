"""What an earlier process left, looked at before it counts: every file whose digest the ledger knows.

A damaged file is moved to quarantine/ and told: in the log, in the ledger and under monitor/.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from aggregator.blobstore import BlobStore
from aggregator.coordinator import events as on
from aggregator.coordinator.phases import Phase, RoundOutcome
from aggregator.coordinator.state import Run
from aggregator.ledger import Ledger
from aggregator.records import Incident, IncidentKind
from aggregator.runfolder import RunFolder
from aggregator.spool import Spool
from broker.messages import BlobRef
from host.files import file_digest
from host.loop import Jobs

TAKES_UPDATES = (Phase.TRAINING, Phase.AGGREGATING)

log = logging.getLogger(__name__)


class Inspection:
    """Looks at the files of a run below the aggregator's folder; tells `note` what is damaged.

    `alive` is called before each file: many large ones take longer than a watchdog waits.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        spool: Spool,
        blobs: BlobStore,
        alive: Callable[[], None],
        note: Callable[[Incident], None],
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._spool = spool
        self._blobs = blobs
        self._alive = alive
        self._note = note

    def look(self, run: Run) -> list[on.Event]:
        """Say what of the active run is damaged: its program, its theta, the updates of its open round."""
        return [*self._program(run), *self._theta(run), *self._updates(run)]

    def look_at_old(self, run: str, active: Run | None, jobs: Jobs) -> None:
        """Look at what is only kept, one file after the other, between the jobs that cannot wait."""
        current = active.model.theta if active is not None and active.model is not None else None
        for number, theta in self.old_thetas(run):
            if theta != current:
                jobs.submit(
                    partial(self.fault_of_old, run, number, theta),
                    partial(self.report_old, run, number),
                    partial(
                        log.warning,
                        "round %d of %s could not be looked at: %s",
                        number,
                        run,
                        extra={"run": run, "round": number},
                    ),
                )

    def fault_of_old(self, run: str, round_: int, theta: BlobRef) -> str:
        """What is wrong with the weights of a closed round; empty also when they are pruned. Any thread."""
        path = RunFolder(self._folder / "runs", run).theta(round_)
        return _fault(path, theta.size, theta.digest) if path.exists() else ""

    def report_old(self, run: str, round_: int, fault: str) -> None:
        """Report damaged weights of a closed round: nothing depends on them."""
        path = RunFolder(self._folder / "runs", run).theta(round_)
        if fault and path.exists():
            self._quarantine(path, fault, run, round_)

    def old_thetas(self, run: str) -> list[tuple[int, BlobRef]]:
        """List the weights that a run's closed rounds made and its start, newest first."""
        made = [
            (row.round, row.theta)
            for row in self._ledger.rounds(run)
            if row.theta is not None and row.outcome not in {None, RoundOutcome.ABANDONED}
        ]
        first = self._ledger.first_theta(run)
        return [*reversed(made), *([(0, first)] if first is not None else [])]

    def _program(self, run: Run) -> Iterator[on.Event]:
        if run.model is None:
            return
        original = RunFolder(self._folder / "runs", run.run).program
        if not self._sound(run, run.model.program, original):
            advice = (
                f"restore {original} and `midge resume`, or stop the run and begin another from its model"
            )
            yield on.ModelDamaged(f"the training program is damaged: {advice}", None)

    def _theta(self, run: Run) -> Iterator[on.Event]:
        if run.model is None:
            return
        folder, thetas = RunFolder(self._folder / "runs", run.run), self.old_thetas(run.run)
        made_in = next((n for n, theta in thetas if theta.digest == run.model.theta.digest), run.last_round)
        original = folder.theta(made_in)
        if self._sound(run, run.model.theta, original):
            return
        for lost, (number, theta) in enumerate(thetas):
            if number != made_in and self._sound(run, theta, folder.theta(number)):
                told = f"the model of round {made_in} is damaged: the run goes on from that of round {number}"
                yield on.ModelDamaged(told, theta, lost)
                return
        advice = f"restore {original} and `midge resume`, or stop the run"
        yield on.ModelDamaged(f"the model is damaged, and no earlier one is sound: {advice}", None)

    def _updates(self, run: Run) -> Iterator[on.Event]:
        for number, device, size, digest in _counted(run):
            path = self._spool.path(run.run, number, device)
            if fault := self._fault_of(path, size, digest):
                self._quarantine(path, fault, run.run, number)
                yield on.UpdateDamaged(number, device, digest)

    def _sound(self, run: Run, ref: BlobRef, original: Path) -> bool:
        """Whether a blob is whole; of it and its original in the run's folder, one mends the other."""
        blob = self._blobs.place(ref)
        faults = {path: self._fault_of(path, ref.size, ref.digest) for path in (blob, original)}
        for path, fault in faults.items():
            if fault and path.exists():
                self._quarantine(path, fault, run.run, run.last_round or None)
        if all(faults.values()):
            return False
        if faults[blob]:
            self._blobs.add(original)
        elif faults[original]:
            self._blobs.restore(ref, original)
        return True

    def _fault_of(self, path: Path, size: int, digest: str) -> str:
        self._alive()
        return _fault(path, size, digest)

    def _quarantine(self, path: Path, fault: str, run: str, round_: int | None) -> None:
        subject = str(path.relative_to(self._folder))
        if path.exists():
            fault = f"{fault}; moved to {self._move(path).relative_to(self._folder)}"
        self._note(Incident(IncidentKind.DAMAGED, run, round_, subject, fault))

    def _move(self, path: Path) -> Path:
        """Every damaged file is kept, also the second of its name."""
        quarantine = self._folder / "quarantine"
        quarantine.mkdir(exist_ok=True)
        name = "--".join(path.relative_to(self._folder).parts)
        number = sum(1 for _ in quarantine.glob(f"*--{path.name}")) + 1
        return path.rename(quarantine / f"{number:04}--{name}")


def _counted(run: Run) -> Iterator[tuple[int, str, int, str]]:
    """Updates that a model is still to take in: round, device, bytes, digest."""
    carried = [*run.carried]
    if run.round is not None and run.phase in TAKES_UPDATES:
        carried += run.round.carried
        for device, part in run.round.cohort.items():
            if part.accepted is not None:
                yield run.round.number, device, part.size, part.accepted
    for one in carried:
        yield one.round, one.device, one.size, one.digest


def _fault(path: Path, expected: int, digest: str) -> str:
    """What is wrong with a file, empty when it is what the digest names."""
    try:
        size = path.stat().st_size
        if size != expected:
            return f"has {size:,} bytes instead of {expected:,}"
        return "" if file_digest(path) == digest else "has another content than its digest says"
    except FileNotFoundError:
        return "is gone"
    except OSError as error:
        return f"cannot be read: {error}"
