"""A device's trainer, of which only the time is simulated, and what becomes of its jobs."""

import hashlib
from collections.abc import Callable

from broker.messages import BlobRef, DeclineReason
from deploy.simulator.clock import Clock
from deploy.simulator.disk import SimulatedStore
from deploy.simulator.scenario import Device, Troubles
from edge_agent.effects import Evaluate, Train
from edge_agent.events import (
    Evaluated,
    Event,
    SpeedMeasured,
    Trained,
    TrainerDied,
    TrainingFailed,
    TrainingProgressed,
)

EVALUATING_S = 1.0
METRICS = {"accuracy": (1.0, 2.0)}
OVERHEAD_BYTES = 100


class SimulatedTrainer:
    """One job at a time; `tell` is only called as long as the job is wanted."""

    def __init__(
        self,
        device: Device,
        clock: Clock,
        store: SimulatedStore,
        later: Callable[[float, Callable[[], None]], None],
        tell: Callable[[Event], None],
    ) -> None:
        self._device = device
        self._later = later
        self._clock = clock
        self._store = store
        self._tell = tell
        self.job = 0
        """What it works on; 0: nothing."""
        self.worked_s = 0.0
        """Of training, whatever became of it."""
        self._training = False
        self._began = 0.0

    def start(self, job: Train | Evaluate, troubles: Troubles, parameters: int) -> float:
        """Begin; the seconds that it will take if nothing comes between."""
        chance = self._clock.chance
        evaluating = isinstance(job, Evaluate)
        seconds = (EVALUATING_S if evaluating else self._device.training_s) * chance.uniform(0.8, 1.3)
        self.job, self._began, self._training = job.job, self._clock.now, not evaluating
        if self._clock.happens(troubles.trainer_dies):
            self._after(seconds / 2, job.job, lambda: self._die(job.job))
        elif self._clock.happens(troubles.work_fails):
            self._after(seconds / 2, job.job, lambda: self._fail(job.job))
        elif isinstance(job, Train):
            speed = self._device.examples / seconds
            self._after(seconds / 4, job.job, lambda: self._tell(SpeedMeasured(job.job, speed)))
            self._after(seconds / 2, job.job, lambda: self._tell(TrainingProgressed(job.job, 0.5, speed)))
            self._after(seconds, job.job, lambda: self._trained(job, seconds, parameters))
        else:
            self._after(seconds, job.job, lambda: self._evaluated(job.job))
        return seconds

    def stop(self) -> None:
        """Nothing more of the job is wanted."""
        if self.job and self._training:
            self.worked_s += self._clock.now - self._began
        self.job = 0

    def _after(self, seconds: float, job: int, action: Callable[[], None]) -> None:
        self._later(seconds, lambda: action() if job == self.job else None)

    def _die(self, job: int) -> None:
        self.stop()
        self._tell(TrainerDied(job, "killed"))

    def _fail(self, job: int) -> None:
        self.stop()
        self._tell(TrainingFailed(job, DeclineReason.TRAINING_FAILED, "the loss is not finite"))

    def _evaluated(self, job: int) -> None:
        self.job = 0
        self._tell(Evaluated(job, METRICS))

    def _trained(self, job: Train, seconds: float, parameters: int) -> None:
        self.stop()
        asked = job.assignment
        # Trained again after a power cut, the weights need not be the same to the bit.
        version = self._clock.chance.randrange(2)
        content = f"{self._device.name} {asked.run} {asked.round} {version}"
        digest = hashlib.sha256(content.encode()).hexdigest()
        size = 4 * parameters + OVERHEAD_BYTES
        update = BlobRef(digest=digest, size=size, chunk_bytes=asked.theta.chunk_bytes)
        self._store.keep_update(update)
        self._tell(Trained(job.job, update, self._device.examples, METRICS, METRICS, seconds))
