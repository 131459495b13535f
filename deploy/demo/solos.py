"""Every device on its own, for comparison: trained in processes of their own, a few at a time."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from broker.messages import TrainingSettings
from deploy.demo.shares import Share
from deploy.local.processes import Job, Processes
from deploy.results.confusion import Matrix

MODULE = "deploy.demo.alone"


class SoloRequest(BaseModel):
    """One device's training alone; `seed` draws the first weights, as it does for the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Path
    data: Path
    model: Path
    seed: int
    runtime: str
    settings: TrainingSettings


class Solos:
    """At most one training for each core at a time."""

    def __init__(
        self, processes: Processes, request: Callable[[Share], SoloRequest], shares: Sequence[Share]
    ) -> None:
        self._processes, self._request = processes, request
        self._waiting = list(shares)
        self._running: dict[str, Job] = {}
        self.matrices: dict[str, Matrix] = {}

    def advance(self) -> list[str]:
        """Start what may start, and name the devices that are done since the last call; raises ChildError."""
        results = {device: job.result() for device, job in self._running.items()}
        done = {device: result for device, result in results.items() if result is not None}
        for device, result in done.items():
            del self._running[device]
            self.matrices[device] = np.array(json.loads(result)["matrix"], np.int64)
        while self._waiting and len(self._running) < (os.cpu_count() or 1):
            share = self._waiting.pop(0)
            request = self._request(share).model_dump_json()
            self._running[share.device] = self._processes.job(f"alone-{share.device}", MODULE, request)
        return list(done)

    @property
    def over(self) -> bool:
        """Whether every device has been trained."""
        return not (self._waiting or self._running)
