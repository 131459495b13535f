"""What the child that runs task files can be asked, and the files that it writes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from aggregator.run_settings import RunSettings

THETA_FILE = "theta.f32"
PROGRAM_FILE = "program.json"


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """As `Child.send` and `ask_once` take it."""
        return self.model_dump(mode="json")


class BuildRequest(_Request):
    """Run the task file and write its first theta and its program into `folder`.

    `initial`, a model file or a raw theta (`.f32`), takes the place of freshly drawn weights. `runtime` is
    what devices train a Keras model with; a LiteRT program is for batches of `batch_size`. `scheduled` says
    that the run has a schedule for the learning rate that the model is compiled with.
    """

    verb: Literal["build"] = "build"
    task: Path
    folder: Path
    seed: int
    initial: Path | None = None
    runtime: str
    batch_size: int = 32
    scheduled: bool = False

    @classmethod
    def of(cls, task: Path, folder: Path, settings: RunSettings, initial: Path | None) -> "BuildRequest":
        """What a run with these settings needs."""
        return cls(
            task=task,
            folder=folder,
            seed=settings.seed,
            initial=initial,
            runtime=settings.runtime,
            batch_size=settings.batch_size,
            scheduled=settings.learning_rate is None and settings.scheduled,
        )


class EvaluateRequest(_Request):
    """Save the model with `theta`, and measure it on the task's held-out data.

    `model` is the file's path without its ending, which depends on the kind of task; the answer has it all.
    """

    verb: Literal["evaluate"] = "evaluate"
    task: Path
    theta: Path
    model: Path


class ExportRequest(_Request):
    """Write what a device can try by itself into `folder`: a LiteRT program, theta, a model that infers."""

    verb: Literal["export"] = "export"
    task: Path
    folder: Path
    seed: int
    batch_size: int


Request = BuildRequest | EvaluateRequest | ExportRequest
REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="verb")])
