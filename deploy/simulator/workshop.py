"""The aggregator's slow work, of which only the time is simulated: build, aggregate, evaluate."""

import hashlib
from collections.abc import Callable

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from broker.contract import DataContract
from broker.messages import BlobRef
from deploy.simulator.disk import SimulatedSpool
from deploy.simulator.fates import Key
from deploy.simulator.judge import Judge
from deploy.simulator.scenario import Scenario
from deploy.simulator.workers import SimulatedJobs
from host.errors import StorageError
from host.files import is_no_room

RUNTIME = "litert"
LAYOUT = "1" * 64
PROGRAM_BYTES = 20_000
CONTRACT = DataContract(shape=(4,))
METRICS = {"accuracy": (1.0, 2.0)}
PREPARING_S, EVALUATING_S = (0.5, 5.0), (0.2, 3.0)
WHY = "out of memory"


class Workshop:
    """Says what came of each work by `tell`; a theta is named by all that went into it.

    `blobs` are those whose files are there; `succeeds` draws whether a work gives a result.
    """

    def __init__(
        self,
        scenario: Scenario,
        judge: Judge,
        spool: SimulatedSpool,
        blobs: set[BlobRef],
        jobs: SimulatedJobs,
        tell: Callable[[on.Event], None],
        hold: Callable[[do.Effect, Exception], None],
        succeeds: Callable[[], bool],
    ) -> None:
        self._scenario = scenario
        self._judge = judge
        self._spool = spool
        self._blobs = blobs
        self._jobs = jobs
        self._later = jobs.later
        self._tell = tell
        self._hold = hold
        self._succeeds = succeeds

    def prepare(self, effect: do.Prepare) -> None:
        """Build the task's model."""
        self._later(PREPARING_S, lambda: self._on_disk(effect, lambda: self._tell(self._prepared(effect))))

    def aggregate(self, effect: do.Aggregate) -> None:
        """Run the strategy over the round's updates."""
        run, number = effect.run, effect.round

        def work() -> BlobRef:
            if self._judge.runs[run]:
                raise StorageError("the run was stopped, and its spool swept")
            spool = {Key(*key): digest for key, digest in self._spool.updates.items()}
            content = self._judge.aggregates_over(effect, spool)
            self._spool.disk.check_room()
            if not self._succeeds():
                raise StorageError(WHY)
            return self._theta(run, number, f"{effect.theta.digest} {content}")

        def done(theta: BlobRef) -> None:
            self._tell(on.Aggregated(run, number, theta))

        def failed(error: Exception) -> None:
            if is_no_room(error):
                self._hold(effect, error)
                return
            self._tell(on.AggregationFailed(run, number, str(error)))

        self._jobs.submit(work, done, failed)

    def evaluate(self, effect: do.Evaluate) -> None:
        """Evaluate the round's model."""
        evaluated: on.Event = on.EvaluationFailed(effect.run, effect.round, WHY)
        if self._succeeds():
            evaluated = on.Evaluated(effect.run, effect.round, METRICS)
        self._later(EVALUATING_S, lambda: self._on_disk(effect, lambda: self._tell(evaluated)))

    def _on_disk(self, effect: do.Effect, finish: Callable[[], None]) -> None:
        """Write what the work gave, or have it done again when there is room."""
        try:
            self._spool.disk.check_room()
        except StorageError as error:
            self._hold(effect, error)
        else:
            finish()

    def _prepared(self, effect: do.Prepare) -> on.Event:
        run = effect.run
        if not self._succeeds():
            return on.PrepareFailed(run, WHY)
        theta, program = self._theta(run, 0, ""), self._blob(f"{run} program", PROGRAM_BYTES)
        return on.Prepared(run, theta, program, LAYOUT, RUNTIME, CONTRACT, self._scenario.parameters)

    def _theta(self, run: str, number: int, content: str) -> BlobRef:
        return self._blob(f"{run} theta {number} {content}", 4 * self._scenario.parameters)

    def _blob(self, content: str, size: int) -> BlobRef:
        digest = hashlib.sha256(content.encode()).hexdigest()
        ref = BlobRef(digest=digest, size=size, chunk_bytes=self._scenario.chunk_bytes)
        self._blobs.add(ref)
        return ref
