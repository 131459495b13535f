"""Settings side by side: each is run with every seed, on the same devices with the same examples."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aggregator.evaluator import MODULE as WORKER
from aggregator.run_settings import RunSettings
from broker.contract import DataContract
from deploy.simulator.training.build import build
from deploy.simulator.training.devices import MODULE as TRAINEE
from deploy.simulator.training.devices import Devices
from deploy.simulator.training.federation import Federation, RunResult
from deploy.simulator.training.partition import Partition
from deploy.simulator.training.pool import Pool
from deploy.simulator.training.shares import Share, Shares, Source

SHARES = "shares"


@dataclass(frozen=True)
class Plan:
    """What to compare, and on what."""

    task: Path
    source: Source
    partition: Partition
    devices: int | None
    settings: Mapping[str, RunSettings]
    """By name; the seed of each is the first of its seeds."""
    seeds: int = 1
    dropout: float = 0.0
    processes: int = 1


@dataclass(frozen=True)
class Trial:
    """One run of one of the settings."""

    name: str
    settings: RunSettings
    result: RunResult


@dataclass(frozen=True)
class Comparison:
    """What came of a plan."""

    plan: Plan
    trials: Sequence[Trial]
    shares: Mapping[int, Sequence[Share]] = field(default_factory=dict)
    """By seed."""

    def of(self, name: str) -> list[Trial]:
        """The runs of one of the settings, by seed."""
        return [trial for trial in self.trials if trial.name == name]


def compare(plan: Plan, progress: Callable[[str, float], None]) -> Comparison:
    """Run all of it; `progress` gets a name, and how many rounds of all runs with these settings are done.

    Raises ConfigError, DataError, ChildError.
    """
    with (
        tempfile.TemporaryDirectory(prefix="midge-simulate-") as folder,
        Pool(WORKER, 1) as worker,
        Pool(TRAINEE, plan.processes) as trainers,
    ):
        return _Bench(plan, Path(folder), worker, trainers).compare(progress)


class _Bench:
    """The processes and files that all runs of a comparison use."""

    def __init__(self, plan: Plan, folder: Path, worker: Pool, trainers: Pool) -> None:
        self._plan, self._folder, self._worker, self._trainers = plan, folder, worker, trainers
        self._shares: Shares | None = None
        self._dealt: dict[int, list[Share]] = {}
        self._present: set[int] = set()

    def compare(self, progress: Callable[[str, float], None]) -> Comparison:
        trials = []
        for offset in range(self._plan.seeds):
            for name, settings in self._plan.settings.items():
                seeded = settings.model_copy(update={"seed": settings.seed + offset})
                before = float(offset * settings.rounds)
                trials.append(self._run(name, seeded, before, progress))
            # The files of all seeds together may be many times the data.
            self._present.clear()
            shutil.rmtree(self._folder / SHARES)
        return Comparison(self._plan, trials, self._dealt)

    def _run(
        self, name: str, settings: RunSettings, before: float, progress: Callable[[str, float], None]
    ) -> Trial:
        plan = self._plan
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            built = build(plan.task, settings, Path(folder) / "run", self._worker)
            devices = Devices(self._deal(settings.seed, built.contract), built, Path(folder), self._trainers)
            federation = Federation(built, settings, devices, plan.dropout, self._worker)
            return Trial(name, settings, federation.run(lambda done: progress(name, before + done)))

    def _deal(self, seed: int, contract: DataContract) -> list[Share]:
        """The devices' files for a seed, which are there already when other settings were run with it."""
        if self._shares is None:
            self._shares = Shares(self._plan.source, self._plan.partition, self._plan.devices, contract)
        if seed not in self._present:
            self._dealt[seed] = self._shares.write(seed, self._folder / SHARES / str(seed))
            self._present.add(seed)
        return self._dealt[seed]
