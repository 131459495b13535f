"""The task's side of a run: built and measured by the process that the aggregator, too, has for it."""

from dataclasses import dataclass
from pathlib import Path

from aggregator.requests import BuildRequest, EvaluateRequest
from aggregator.run_settings import RunSettings
from aggregator.runfolder import resolve_start
from aggregator.strategies.registry import load_strategy
from broker.contract import DataContract
from broker.names import Metrics
from deploy.simulator.training.pool import Pool
from host.children import Json
from host.errors import ConfigError


@dataclass(frozen=True)
class Built:
    """A run's program and first weights."""

    task: Path
    theta: Path
    program: Path
    contract: DataContract


def build(task: Path, settings: RunSettings, folder: Path, worker: Pool) -> Built:
    """Run the task file, and write what devices need into `folder`, a new one; raises ConfigError."""
    load_strategy(settings.strategy)
    initial = resolve_start(Path("runs"), settings.initial) if settings.initial else None
    folder.mkdir(parents=True)
    answer = _ask(worker, BuildRequest.of(task, folder, settings, initial).to_json())
    contract = DataContract.model_validate(answer["contract"])
    return Built(task, Path(answer["theta"]), Path(answer["program"]), contract)


def measure(built: Built, theta: Path, worker: Pool) -> Metrics | None:
    """What the task's held-out data says of a theta; None without such data. Raises ConfigError."""
    model = theta.with_name("model")
    found = _ask(worker, EvaluateRequest(task=built.task, theta=theta, model=model).to_json())["metrics"]
    return None if found is None else {name: (value, weight) for name, (value, weight) in found.items()}


def _ask(worker: Pool, request: Json) -> Json:
    answer = worker.ask([request])[0]
    if answer["event"] == "failed":
        raise ConfigError(str(answer["detail"]))
    return answer
