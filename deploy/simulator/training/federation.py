"""One run, round by round, with the parts of a real one: its selection, trainer, strategy and evaluation.

What is missing is time: no device is slow, and who drops out of a round is not replaced in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aggregator.aggregate import SpooledUpdate, aggregate, state_path
from aggregator.coordinator.cohort import Selection, needed, round_seed, select
from aggregator.coordinator.phases import RoundOutcome
from aggregator.run_settings import RunSettings
from aggregator.stopping import StopRule
from aggregator.strategies.registry import load_strategy
from broker.messages import TrainingSettings
from broker.monitor import Means, means
from broker.program import Program
from deploy.simulator.training.build import Built, measure
from deploy.simulator.training.devices import Declined, Devices
from deploy.simulator.training.pool import Pool
from edge_agent.seeds import derive_seed
from host.errors import ConfigError, DataError
from host.files import file_digest

SEEDS = 1 << 63


@dataclass(frozen=True)
class RoundResult:
    """What came of a round, as in a run's history.json."""

    round: int
    outcome: RoundOutcome
    reason: str
    participants: int
    accepted: int
    metrics: Means | None
    """On the task's held-out data; None without any."""
    federated: Means
    """On the devices' own validation examples."""

    @property
    def decisive(self) -> Means:
        """What a stopping rule is about: the devices' evaluation only where there is no other."""
        return self.federated if self.metrics is None else self.metrics

    def reaches(self, rule: StopRule) -> bool:
        """Whether the evaluation fulfils the rule."""
        return rule.fulfilled({name: (mean, 1.0) for name, mean in self.decisive.items()})


@dataclass(frozen=True)
class RunResult:
    """A run to its end."""

    rounds: tuple[RoundResult, ...]
    theta: str
    """SHA-256 of the last weights, raw little-endian float32[P]."""
    ended: str
    """`finished`, or `paused` where too many rounds in a row had too few updates."""


class Federation:
    """A run of `built`; `worker` evaluates its models."""

    def __init__(
        self, built: Built, settings: RunSettings, devices: Devices, dropout: float, worker: Pool
    ) -> None:
        self._built, self._settings, self._dropout = built, settings, dropout
        self._devices, self._worker = devices, worker
        self._layout = Program.from_bytes(built.program.read_bytes()).layout
        self._theta = built.theta
        self._completed = 0
        self._unfit: set[str] = set()

    def run(self, progress: Callable[[float], None]) -> RunResult:
        """All rounds; `progress` gets how many are done. Raises ConfigError, ChildError."""
        rounds: list[RoundResult] = []
        settings, rule, in_a_row = self._settings, self._settings.stop_rule, 0
        while self._completed < settings.rounds and in_a_row < settings.abandoned_limit:
            result = self._round(len(rounds) + 1, progress)
            rounds.append(result)
            in_a_row = in_a_row + 1 if result.outcome is RoundOutcome.ABANDONED else 0
            if rule is not None and result.reaches(rule):
                break
        ended = "paused" if in_a_row >= settings.abandoned_limit else "finished"
        return RunResult(tuple(rounds), file_digest(self._theta), ended)

    def _round(self, number: int, progress: Callable[[float], None]) -> RoundResult:
        fit = set(self._devices.names) - self._unfit
        if len(fit) < needed(self._settings):
            raise ConfigError(f"a round needs {needed(self._settings)} devices, and only {len(fit)} fit")
        chosen = select(fit, self._settings, number, self._dropout)
        given = self._settings.training(round_seed(self._settings.seed, number), self._completed)
        updates, faults = self._train(number, chosen, given, progress)
        abandoned = self._close(number, updates, chosen.quorum)
        for update in updates:
            update.path.unlink()
        if not abandoned:
            self._completed += 1
            progress(self._completed)
        return RoundResult(
            round=number,
            outcome=RoundOutcome.ABANDONED if abandoned else RoundOutcome.COMPLETED,
            reason="; ".join(filter(None, [abandoned, *faults[:1]])),
            participants=len(chosen.cohort),
            accepted=len(updates),
            metrics=None if abandoned else self._measured(),
            federated={} if abandoned else self._federated(given),
        )

    def _close(self, number: int, updates: Sequence[SpooledUpdate], quorum: int) -> str:
        """Make the next model, or say why it stays as it was."""
        if len(updates) < quorum:
            return f"{len(updates)} of at least {quorum} updates"
        before, after = self._theta, self._built.theta.with_name(f"round-{number:04}.f32")
        try:
            aggregate(load_strategy(self._settings.strategy), self._layout, before, updates, after)
        except DataError as error:
            return str(error)
        self._theta = after
        before.unlink()
        state_path(before).unlink(missing_ok=True)
        return ""

    def _train(
        self, number: int, chosen: Selection, given: TrainingSettings, progress: Callable[[float], None]
    ) -> tuple[list[SpooledUpdate], list[str]]:
        """Updates up to the target, and what was wrong with others; whom the round has no use for rests."""
        waiting = self._who_reports(number, chosen.cohort)
        updates: list[SpooledUpdate] = []
        faults: list[str] = []
        trained = 0

        def done() -> None:
            nonlocal trained
            trained += 1
            progress(self._completed + min(1.0, trained / (chosen.target + 1)))

        while waiting and len(updates) < chosen.target:
            asked = [waiting.pop(0) for _ in range(min(len(waiting), chosen.target - len(updates)))]
            found = self._devices.train(asked, number, self._theta, given, self._settings.max_norm, done)
            for device, answer in found.items():
                if isinstance(answer, Declined):
                    faults.append(answer.why)
                    self._unfit |= {device} if answer.for_good else set()
                else:
                    updates.append(answer)
        return updates, faults

    def _who_reports(self, number: int, cohort: Sequence[str]) -> list[str]:
        """Those of the cohort that do not drop out, in the order in which they report: both are chance."""
        seed = round_seed(self._settings.seed, number)
        staying = [
            device
            for device in cohort
            if derive_seed(seed, number, f"{device} drops out") >= self._dropout * SEEDS
        ]
        return sorted(staying, key=lambda device: derive_seed(seed, number, f"{device} reports"))

    def _measured(self) -> Means | None:
        found = measure(self._built, self._theta, self._worker)
        return None if found is None else means(found)

    def _federated(self, given: TrainingSettings) -> Means:
        if not self._settings.federated_evaluation:
            return {}
        return means(self._devices.measure(self._theta, given))
