"""The agent's side of training, without a broker: programs are given by hand, the trainer is a real child."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from broker.contract import DataContract
from broker.layout import Theta
from broker.messages import BlobRef, TrainingSettings
from edge_agent.data.examples import Examples
from edge_agent.effects import Train
from edge_agent.events import SpeedMeasured, TrainingProgressed
from edge_agent.settings import AgentSettings
from edge_agent.store import Store
from edge_agent.training import Outcome, Trainer, TrainerSaid
from host.inbox import Inbox
from tests.edge_agent.agent_world import assignment

# All that a job may take: each of its parts ends by the silence limit.
JOB_LIMIT_S = 60.0


@dataclass(frozen=True)
class Job:
    """What is trained on what."""

    layout: str
    theta: Theta
    examples: Examples
    contract: DataContract
    settings: TrainingSettings


class Device:
    """Trains whatever program it is given, as the agent would, but for the second try after a death."""

    def __init__(self, folder: Path, job: Job, **settings: Any) -> None:  # noqa: ANN401 - any setting
        np.savez(folder / "data.npz", x=job.examples.x, y=job.examples.y)
        given = {
            "device": "pi-1",
            "broker": {"url": "mqtt://127.0.0.1"},
            "data": {"kind": "npz", "path": folder / "data.npz"},
            "nice": 0,
        }
        self._store = Store(folder / "state")
        self._inbox: Inbox[TrainerSaid] = Inbox(1)
        self._trainer = Trainer(AgentSettings.model_validate(given | settings), self._store, self._inbox.put)
        self._silence_s = self._trainer._silence_s
        self._job, self._jobs = job, 0
        self._theta = self._blob(job.theta.tobytes())

    @property
    def pid(self) -> int | None:
        """The trainer's process, while there is one."""
        return self._trainer.pid

    def train(self, program: bytes, silence_s: float | None = None) -> Outcome:
        """What became of it; a program that goes on past all limits fails the test."""
        self._jobs += 1
        self._trainer._silence_s = silence_s or self._silence_s
        asked = assignment(
            runtime="litert",
            program=self._blob(program),
            theta=self._theta,
            layout=self._job.layout,
            contract=self._job.contract,
            settings=self._job.settings,
        )
        began = time.monotonic()
        outcomes: list[Outcome] = self._trainer.start(Train(self._jobs, asked, asked.settings), began)
        while not outcomes:
            until = self._trainer.next_deadline()
            assert until is not None, "the trainer has no job and gave no outcome"
            said = self._inbox.get(max(0.0, until - time.monotonic()))
            now = time.monotonic()
            assert now < began + JOB_LIMIT_S, f"the job goes on after {JOB_LIMIT_S:g} s"
            outcome = self._trainer.understand(said, now) if said else self._trainer.fire(now)
            if outcome is not None and not isinstance(outcome, TrainingProgressed | SpeedMeasured):
                outcomes = [outcome]
        self._store.blob(asked.program).unlink(missing_ok=True)
        return outcomes[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._trainer.stop()
        self._store.close()

    def _blob(self, content: bytes) -> BlobRef:
        ref = BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), chunk_bytes=1 << 16)
        self._store.blob(ref).write_bytes(content)
        return ref
