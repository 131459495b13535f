"""The slow effects of the coordinator, carried out beside the loop: build, aggregate, evaluate."""

import contextlib
import logging
from collections.abc import Callable, Collection
from pathlib import Path

from aggregator.aggregate import SpooledUpdate, aggregate
from aggregator.blobstore import BlobStore
from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.evaluator import Answer, Evaluator
from aggregator.ledger import Ledger
from aggregator.opening import Opening
from aggregator.records import JSON
from aggregator.runfolder import RunFolder, resolve_start
from aggregator.settings import AggregatorSettings
from aggregator.spool import Spool
from aggregator.strategies.registry import load_strategy
from broker.contract import DataContract, Needs
from broker.layout import Layout
from broker.program import Program
from host.errors import MidgeError, NoRoomError, StorageError
from host.files import is_no_room, says_no_room
from host.loop import Jobs, Loop

log = logging.getLogger(__name__)


class Workshop:
    """Owns the run's files; says what came of it as events of the coordinator."""

    def __init__(
        self,
        settings: AggregatorSettings,
        ledger: Ledger,
        spool: Spool,
        loop: Loop,
        jobs: Jobs,
        tell: Callable[[on.Event], None],
        hold: Callable[[do.Effect, Exception], None],
        opening: Opening,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spool = spool
        self._jobs = jobs
        self._tell = tell
        self._hold = hold
        self._opening = opening
        self._evaluator = Evaluator(loop)
        self._runs = settings.folder / "runs"
        self.blobs = BlobStore(settings.folder / "blobs", settings.chunk_bytes)
        self._layouts: dict[str, Layout] = {}

    def layout(self, run: str) -> Layout:
        """The layout of a prepared run."""
        if run not in self._layouts:
            program = Program.from_bytes(RunFolder(self._runs, run).program.read_bytes())
            self._layouts = {run: program.layout}
        return self._layouts[run]

    def prepare(self, effect: do.Prepare) -> None:
        """Have the task file run, and its first weights and its program written."""
        run, folder = effect.run, RunFolder(self._runs, effect.run)

        def failed(reason: str) -> None:
            self._tell(on.PrepareFailed(run, reason))

        try:
            load_strategy(effect.settings.strategy)
            initial = resolve_start(self._runs, effect.settings.initial) if effect.settings.initial else None
            task = self._task(effect.task)
        except MidgeError as error:
            failed(str(error))
            return

        def broke(reason: str) -> None:
            if says_no_room(reason):
                self._hold(effect, NoRoomError(f"task {effect.task}: {reason}"))
            else:
                failed(reason)

        def built(answer: Answer) -> None:
            try:
                finish(answer)
            except (OSError, StorageError) as error:
                if not is_no_room(error):
                    raise
                self._hold(effect, error)

        def finish(answer: Answer) -> None:
            Path(answer["theta"]).replace(folder.theta(0))
            program = Program.from_bytes(folder.program.read_bytes())
            event = on.Prepared(
                run=run,
                theta=self.blobs.add(folder.theta(0)),
                program=self.blobs.add(folder.program),
                layout=program.layout.digest,
                runtime=program.runtime,
                contract=DataContract.model_validate(answer["contract"]),
                parameters=program.layout.size,
                needs=Needs.model_validate(answer["needs"]),
            )
            self._write_manifest(folder, effect, event)
            self._tell(event)

        self._evaluator.build(task, folder.path, effect.settings, initial, built, broke)

    def aggregate(self, effect: do.Aggregate) -> None:
        """Run the strategy over the round's updates."""
        folder, updates = RunFolder(self._runs, effect.run), self._spooled(effect)
        out = folder.theta(effect.round)

        def opened(update: SpooledUpdate) -> contextlib.AbstractContextManager[Path]:
            return self._opening.opened(update.path, effect.run, update.round, update.device)

        def work() -> str:
            strategy, layout = load_strategy(effect.strategy), self.layout(effect.run)
            before = folder.theta_with(effect.theta.digest)
            return aggregate(strategy, layout, before, updates, out, opened)

        def done(_digest: str) -> None:
            try:
                ref = self.blobs.add(out)
            except OSError as error:
                failed(error)
            else:
                self._tell(on.Aggregated(effect.run, effect.round, ref))

        def failed(error: Exception) -> None:
            if is_no_room(error):
                self._hold(effect, error)
                return
            about = {"run": effect.run, "round": effect.round}
            text = "round %d of %s could not be aggregated: %s"
            log.error(text, effect.round, effect.run, error, extra=about)
            self._tell(on.AggregationFailed(effect.run, effect.round, str(error)))

        self._jobs.submit(work, done, failed)

    def _spooled(self, effect: do.Aggregate) -> list[SpooledUpdate]:
        fresh = [(device, effect.round, examples, 1.0) for device, examples in effect.updates]
        carried = [(one.device, one.round, one.examples, one.weight) for one in effect.carried]
        rounds = {number for _, number, _, _ in fresh + carried}
        metrics = {
            (number, row.device): row.metrics or {}
            for number in rounds
            for row in self._ledger.participants(effect.run, number)
        }
        return [
            SpooledUpdate(
                device,
                self._spool.path(effect.run, number, device),
                examples,
                metrics[number, device],
                number,
                weight,
            )
            for device, number, examples, weight in fresh + carried
        ]

    def evaluate(self, effect: do.Evaluate) -> None:
        """Save the round's model and evaluate it."""
        run, number, folder = effect.run, effect.round, RunFolder(self._runs, effect.run)

        def failed(reason: str) -> None:
            if says_no_room(reason):
                self._hold(effect, NoRoomError(f"the model of round {number} cannot be saved: {reason}"))
                return
            about = {"run": run, "round": number}
            text = "the model of round %d of %s could not be evaluated: %s"
            log.error(text, number, run, reason, extra=about)
            self._tell(on.EvaluationFailed(run, number, reason))

        def done(answer: Answer) -> None:
            try:
                folder.publish_model(Path(answer["model"]))
            except OSError as error:
                failed(str(error))
                return
            metrics = answer["metrics"]
            pairs = None if metrics is None else {name: (pair[0], pair[1]) for name, pair in metrics.items()}
            self._tell(on.Evaluated(run, number, pairs))

        try:
            task, theta = self._task(effect.task), self.blobs.path(effect.theta)
        except MidgeError as error:
            failed(str(error))
            return
        self._evaluator.evaluate(task, theta, folder.round_model(number), done, failed)

    def write_history(self, run: str, spooled: Collection[tuple[str, int]]) -> None:
        """Bring the run's folder up to date, and let go of what nobody needs any more."""
        # An upload for a round that is over may still be verified, beside the loop: what it leaves, the next
        # sweep removes.
        with contextlib.suppress(OSError):
            self._spool.sweep(spooled)
        folder = RunFolder(self._runs, run)
        folder.write_history(self._ledger.rounds(run))
        folder.prune(self._settings.keep_rounds)

    def give_up(self) -> None:
        """The run was stopped: nobody waits for its model any more."""
        self._evaluator.give_up()

    def close(self) -> None:
        """End the child process."""
        self._evaluator.close()

    def _task(self, name: str) -> Path:
        task = self._settings.tasks.get(name)
        if task is None or not task.file.is_file():
            raise MidgeError(f"task {name!r} has no file here: look at [tasks.{name}] in the settings file")
        return task.file

    def _write_manifest(self, folder: RunFolder, effect: do.Prepare, event: on.Prepared) -> None:
        settings = effect.settings.model_dump(mode="json", exclude_none=True)
        digests = {"theta": event.theta.digest, "program": event.program.digest, "layout": event.layout}
        contract = event.contract.model_dump(mode="json", exclude_none=True)
        about: dict[str, JSON] = {
            "run": effect.run,
            "task": effect.task,
            "seed": effect.settings.seed,
            "parameters": event.parameters,
            "settings": settings,
            "contract": contract,
            "needs": event.needs.model_dump(mode="json", exclude_defaults=True),
            "digests": digests,
        }
        folder.write_manifest(about)
