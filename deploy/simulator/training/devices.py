"""The devices of a run: each trains and measures on its share, as its agent's trainer would."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aggregator.aggregate import SpooledUpdate, verify
from aggregator.coordinator.evaluating import sum_metrics
from broker.messages import DeclineReason, TrainingSettings
from broker.names import Metrics
from broker.program import Program
from deploy.simulator.training.build import Built
from deploy.simulator.training.pool import Pool
from deploy.simulator.training.shares import Share
from edge_agent.seeds import derive_seed
from edge_agent.trainer import EvaluateRequest, TrainRequest
from host.children import Json
from host.errors import ConfigError

MODULE = "deploy.simulator.training.trainee"
# What is wrong with one device, and not with all of them alike.
OF_ONE_DEVICE = (DeclineReason.DATA, DeclineReason.TRAINING_FAILED)


@dataclass(frozen=True)
class Declined:
    """Why a device gives no update, and whether it will not in later rounds either."""

    why: str
    for_good: bool


class Devices:
    """All of them, by name; `pool` does their work, and their files lie in `folder`."""

    def __init__(self, shares: Sequence[Share], built: Built, folder: Path, pool: Pool) -> None:
        self._shares: Mapping[str, Share] = {share.device: share for share in shares}
        self._built, self._folder, self._pool = built, folder, pool
        self._program = Program.from_bytes(built.program.read_bytes())

    @property
    def names(self) -> tuple[str, ...]:
        """All devices."""
        return tuple(self._shares)

    def train(
        self,
        devices: Sequence[str],
        number: int,
        theta: Path,
        settings: TrainingSettings,
        max_norm: float | None,
        done: Callable[[], None],
    ) -> dict[str, SpooledUpdate | Declined]:
        """What each gives in round `number`, whose seed is in `settings`; `done` is called for each.

        Raises ConfigError for what is wrong with all devices alike, ChildError.
        """
        requests = [self._training(device, number, theta, settings) for device in devices]
        answers = self._pool.ask([request.model_dump(mode="json") for request in requests], done)
        return {
            device: self._taken(device, number, request.update, answer, max_norm)
            for device, request, answer in zip(devices, requests, answers, strict=True)
        }

    def measure(self, theta: Path, settings: TrainingSettings) -> Metrics | None:
        """What all devices' own validation examples say of a theta, added up."""
        requests = [
            EvaluateRequest(**self._work(device, theta), settings=settings).model_dump(mode="json")
            for device in self._shares
        ]
        answers = self._pool.ask(requests)
        return sum_metrics([pairs(answer["metrics"]) for answer in answers if answer["event"] == "evaluated"])

    def _training(self, device: str, number: int, theta: Path, given: TrainingSettings) -> TrainRequest:
        return TrainRequest(
            **self._work(device, theta),
            settings=given.model_copy(update={"seed": derive_seed(given.seed, number, device)}),
            update=self._folder / f"{device}.update",
            state=self._folder / f"{device}.npz",
        )

    def _work(self, device: str, theta: Path) -> Json:
        return {
            "data": self._shares[device].data,
            "runtime": self._program.runtime,
            "program": self._built.program,
            "theta": theta,
            "layout": self._program.layout.digest,
            "contract": self._built.contract,
        }

    def _taken(
        self, device: str, number: int, update: Path, answer: Json, max_norm: float | None
    ) -> SpooledUpdate | Declined:
        if answer["event"] == "failed":
            reason = DeclineReason(answer["reason"])
            why = f"{device} declines, {reason}: {answer['detail']}"
            if reason not in OF_ONE_DEVICE:
                raise ConfigError(why)
            return Declined(why, for_good=reason is DeclineReason.DATA)
        if (rejected := verify(update, self._program.layout, max_norm)) is not None:
            update.unlink()
            return Declined(f"the update of {device} is rejected: {rejected}", for_good=False)
        return SpooledUpdate(device, update, int(answer["examples"]), pairs(answer["metrics"]), number)


def pairs(metrics: Mapping[str, Sequence[float]]) -> Metrics:
    """Metrics as (sum, weight), from JSON."""
    return {name: (value, weight) for name, (value, weight) in metrics.items()}
