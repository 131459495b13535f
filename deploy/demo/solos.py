"""Every device on its own, for comparison: what the process deploy.demo.alone is asked for."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from broker.messages import TrainingSettings

MODULE = "deploy.demo.alone"


class Solo(BaseModel):
    """One device's training: on `data`, into the file `model`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    model: Path
    settings: TrainingSettings


class SoloRequest(BaseModel):
    """All devices by name; `seed` draws the first weights, as it does for the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Path
    seed: int
    runtime: str
    batch_size: int
    solos: dict[str, Solo]
