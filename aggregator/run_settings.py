"""The settings of one run: what `midge start TASK --set name=value` may change."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from aggregator.stopping import MAX_RULE, StopRule
from broker.control import SettingValue
from broker.messages import RateSchedule, TrainingSettings
from host.errors import ConfigError

Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]
Devices = Annotated[int, Field(ge=1, le=4096)]


class RunSettings(BaseModel):
    """How a run selects its cohorts, closes its rounds and has its devices train."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rounds: int = Field(
        default=10, ge=1, le=1_000_000, description="completed rounds after which the run is finished"
    )
    stop_when: str | None = Field(
        default=None,
        max_length=MAX_RULE,
        description="such as `accuracy >= 0.97`: the run is finished after the first round that reaches it",
    )
    seed: int = Field(default=0, ge=0, lt=1 << 63, description="all chance of the run follows from it")
    strategy: str = Field(default="fedavg", description="an entry point of the group midge.strategies")
    runtime: Literal["keras", "litert"] = Field(
        default="litert",
        description="what devices train a Keras model with: a LiteRT program, or TensorFlow with Keras",
    )
    initial: str | None = Field(
        default=None, description="start from this .keras or .npz file, or from the model of this run"
    )

    fraction: float = Field(
        default=1.0, gt=0, le=1, description="part of the devices that fit, for which a round aims"
    )
    min_devices: Devices = Field(
        default=1, description="devices that live and fit, without which no round opens"
    )
    target: Devices | None = Field(default=None, description="updates that close a round; None: by fraction")
    over_selection: float = Field(
        default=1.0, ge=1, le=10, description="devices invited for each update aimed for"
    )
    min_over_selection: float | None = Field(
        default=None,
        ge=1,
        le=10,
        description="from here up to over_selection, as the drop-out measured asks for; None: over_selection",
    )
    quorum: Devices | None = Field(
        default=None, description="updates without which a round is abandoned; None: half"
    )
    deadline_s: Seconds = Field(default=600.0, description="time for training and upload")
    min_deadline_s: Seconds | None = Field(
        default=None,
        description="from here up to deadline_s, as the times of earlier updates ask for; None: deadline_s",
    )
    straggler_factor: float | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="with the quorum met, wait so many times the slowest update at most; None: the deadline",
    )
    grace_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=30.0,
        description="wait at the deadline, or after an update with the quorum met, for who is due by then",
    )
    late: Literal["discard", "carry"] = Field(
        default="discard",
        description="updates that come when their round is closed: in the next round they count for less",
    )
    evaluation_deadline_s: Seconds = Field(default=60.0, description="time for evaluating a new model")
    federated_evaluation: bool = Field(
        default=True, description="devices evaluate each new model on their own data"
    )
    abandoned_limit: int = Field(
        default=3, ge=1, le=1000, description="rounds abandoned in a row that pause the run"
    )
    max_norm: float | None = Field(default=None, gt=0, description="largest L2 norm of an update; None: any")

    epochs: int | None = Field(default=None, ge=1, le=100_000, description="local epochs a round; default 1")
    steps: int | None = Field(
        default=None, ge=1, le=100_000_000, description="local steps a round, instead of epochs"
    )
    batch_size: int = Field(default=32, ge=1, le=1_000_000, description="examples in a local step")
    learning_rate: float | None = Field(default=None, gt=0, description="None: as the task compiled it")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="how the learning rate goes down, step by step over the whole run"
    )
    warmup_rounds: int = Field(
        default=0, ge=0, le=1_000_000, description="first rounds, in which the learning rate rises from 0"
    )
    final_rate: float = Field(
        default=0.0, ge=0, le=1, description="where the schedule ends, as a fraction of the learning rate"
    )
    proximal: float = Field(
        default=0.0,
        ge=0,
        description="FedProx's mu: pulls devices back to the round's model; 0: federated averaging",
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest L2 norm of a local step's gradient; None: any"
    )
    short_batch: Literal["refill", "drop"] = Field(
        default="refill", description="of a model with BatchNormalization: an epoch's short last batch"
    )
    optimizer_state: Literal["reset", "keep"] = Field(
        default="reset", description="whether devices begin each round with a fresh optimizer"
    )
    validation_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="of each device's examples, never trained on"
    )

    @field_validator("stop_when")
    @classmethod
    def _a_rule(cls, text: str | None) -> str | None:
        return None if text is None else str(StopRule.parse(text))

    @model_validator(mode="after")
    def _consistent(self) -> "RunSettings":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both")
        if self.target is not None and self.quorum is not None and self.quorum > self.target:
            raise ValueError(f"quorum {self.quorum} is above target {self.target}: no round could close")
        return self

    @model_validator(mode="after")
    def _bounds_in_order(self) -> "RunSettings":
        for name in ("deadline_s", "over_selection"):
            least, most = getattr(self, f"min_{name}"), getattr(self, name)
            if least is not None and least > most:
                raise ValueError(f"min_{name} {least:g} is above {name} {most:g}")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> "RunSettings":
        if self.warmup_rounds > self.rounds:
            raise ValueError(f"warmup_rounds {self.warmup_rounds} is above rounds {self.rounds}")
        if self.final_rate and self.schedule == "constant":
            raise ValueError("final_rate is where a schedule ends: set schedule to linear or cosine as well")
        return self

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate changes over the run."""
        return self.schedule != "constant" or self.warmup_rounds > 0

    @property
    def stop_rule(self) -> StopRule | None:
        """`stop_when`, read."""
        return None if self.stop_when is None else StopRule.parse(self.stop_when)

    def training(self, round_seed: int, completed: int = 0, rounds: int = 1) -> TrainingSettings:
        """What devices are told of it, for `rounds` rounds after `completed` of them."""
        return TrainingSettings(
            epochs=None if self.steps else self.epochs or 1,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=self._rate_schedule(completed, completed + rounds),
            proximal=self.proximal,
            clip_norm=self.clip_norm,
            short_batch=self.short_batch,
            optimizer_state=self.optimizer_state,
            validation_fraction=self.validation_fraction,
            seed=round_seed,
        )

    def _rate_schedule(self, begin: int, end: int) -> RateSchedule | None:
        if not self.scheduled:
            return None
        return RateSchedule(
            shape=self.schedule,
            begin=begin,
            end=end,
            rounds=self.rounds,
            warmup_rounds=self.warmup_rounds,
            final_rate=self.final_rate,
        )


def overlay(below: Mapping[str, SettingValue], above: Mapping[str, SettingValue]) -> dict[str, SettingValue]:
    """A task's settings under a request's, which also chooses between epochs and steps."""
    either = {"epochs", "steps"}
    hidden = either if either & above.keys() else set()
    return {**{name: value for name, value in below.items() if name not in hidden}, **above}


def read_run_settings(values: Mapping[str, SettingValue]) -> RunSettings:
    """Validate what operators and settings files give; raises ConfigError, one line for all faults."""
    try:
        return RunSettings.model_validate(dict(values))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise ConfigError("; ".join(map(_describe, faults))) from None


def _describe(fault: ErrorDetails) -> str:
    said = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:
        return said
    name = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, RunSettings.model_fields, n=1)
        return f"{name} is not a setting of a run" + (f"; did you mean {near[0]}?" if near else "")
    return f"{name}: {said[0].lower()}{said[1:]}, not {fault['input']!r}"
