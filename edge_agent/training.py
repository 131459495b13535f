"""The parent's side of the trainer: jobs go to a child process, what it says comes back as events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from broker.messages import Assignment, DeclineReason, Fraction
from broker.names import Finite, Metrics
from broker.sealing import context_of
from edge_agent.effects import Evaluate, Train
from edge_agent.events import (
    Evaluated,
    SpeedMeasured,
    Trained,
    TrainerDied,
    TrainingFailed,
    TrainingProgressed,
)
from edge_agent.settings import AgentSettings
from edge_agent.store import Store
from edge_agent.vitals import total_memory_bytes
from host.children import Child, ask_once
from host.errors import ChildError, DataError, StorageError

MODULE = "edge_agent.trainer"
INSPECT_S = 600.0
MAX_DETAIL = 300

Json = dict[str, Any]
Outcome = TrainingProgressed | SpeedMeasured | Trained | Evaluated | TrainingFailed | TrainerDied


@dataclass(frozen=True)
class TrainerSaid:
    """A message of a trainer child, or how it ended, in the loop's inbox; `child` counts the children."""

    child: int
    message: Json | None
    ended: str = ""


class _Progress(BaseModel):
    event: Literal["progress"]
    progress: Fraction
    examples_per_s: Annotated[Finite, Field(ge=0)] = 0.0


class _Measured(BaseModel):
    event: Literal["measured"]
    examples_per_s: Annotated[Finite, Field(ge=0)]


class _Trained(BaseModel):
    event: Literal["trained"]
    examples: int = Field(ge=1, le=1 << 40)
    metrics: Metrics
    validation: Metrics
    seconds: Annotated[Finite, Field(ge=0)]


class _Evaluated(BaseModel):
    event: Literal["evaluated"]
    metrics: Metrics


class _Failed(BaseModel):
    event: Literal["failed"]
    reason: DeclineReason
    detail: str = ""


_Spoken = _Progress | _Measured | _Trained | _Evaluated | _Failed
_SPOKEN: TypeAdapter[_Spoken] = TypeAdapter(Annotated[_Spoken, Field(discriminator="event")])


class _Ear:
    """Lets one child say so much: one progress at a time, one speed and one answer a job, its end."""

    def __init__(self, child: int, hear: Callable[[TrainerSaid], object]) -> None:
        self.child = child
        self._hear = hear
        self._asked = False
        self._notes: set[object] = set()

    def ask(self) -> None:
        """An answer is awaited from now on."""
        self._asked = True
        self._notes.clear()

    def understood(self) -> None:
        """The next progress may come."""
        self._notes.discard("progress")

    def message(self, message: Json) -> None:
        """Pass it on; raises ChildError, which ends the child, at an answer that nobody awaits."""
        event = message.get("event")
        if event in ("progress", "measured"):
            # The next progress says it better.
            if event in self._notes:
                return
            self._notes.add(event)
        elif not self._asked:
            raise ChildError("answered what was not asked")
        else:
            self._asked = False
        self._hear(TrainerSaid(self.child, message))

    def end(self, how: str) -> None:
        """Pass on how the child ended."""
        self._hear(TrainerSaid(self.child, None, how))


class Trainer:
    """One job at a time, in a child that is kept warm between jobs or not; only for the loop's thread.

    `hear` puts what the child says into the loop's inbox, which is never much; the loop gives it to
    `understand`.
    """

    def __init__(
        self,
        settings: AgentSettings,
        store: Store,
        hear: Callable[[TrainerSaid], object],
        module: str = MODULE,
    ) -> None:
        self._topics, self._device = settings.broker.topics, settings.device
        self._data = settings.data.model_dump(mode="json")
        self._nice = settings.nice
        self._memory_bytes = settings.trainer_memory_bytes or default_memory_bytes()
        self._silence_s = settings.trainer_silence_s
        self._idle_s = settings.trainer_idle_s if settings.keep_trainer_warm else 0.0
        self._store = store
        self._hear = hear
        self._module = module
        self._child: Child | None = None
        self._ear = _Ear(0, hear)
        self._job: Train | Evaluate | None = None
        # With a job, when the child has been silent for too long; without, when it has been idle for long.
        self._until: float | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        return self._child.pid if self._child else None

    def start(self, job: Train | Evaluate, now: float) -> list[Outcome]:
        """Hand a job to the child, and start one first if none is warm; the outcome where that fails."""
        self._job, self._until = job, now + self._silence_s
        try:
            request = self._request(job)
            if self._child is None or not self._child.alive:
                self._child = self._new_child()
            self._ear.ask()
            self._child.send(request)
        except OSError as error:
            self.stop()
            return [TrainerDied(job.job, _printable(f"it cannot be started: {error}"))]
        except ValueError as error:
            self._rest(now, warm=True)
            return [_failed(job, DeclineReason.CONTRACT, f"the trainer cannot be asked: {error}")]
        return []

    def stop(self) -> None:
        """Kill the child; what it still said is not understood any more."""
        if self._child is not None:
            self._child.kill()
        self._child = self._job = self._until = None

    def understand(self, said: TrainerSaid, now: float) -> Outcome | None:
        """Make an event of what a child said; None when it is of no interest any more."""
        if said.child != self._ear.child or self._child is None:
            return None
        job = self._job
        if said.message is None:
            self._child = self._job = self._until = None
            return TrainerDied(job.job, _printable(said.ended)) if job else None
        if job is None:
            return None
        self._ear.understood()
        self._until = now + self._silence_s
        outcome = self._outcome(job, said.message)
        if not isinstance(outcome, TrainingProgressed | SpeedMeasured):
            self._rest(now, warm=not _is_unsound(outcome))
        return outcome

    def next_deadline(self) -> float | None:
        """When to call `fire`."""
        return self._until

    def fire(self, now: float) -> TrainingFailed | None:
        """Give the memory back when the child has been idle for long; end a job that it is silent about.

        That is not tried again, as a death is: it would only take as long once more.
        """
        if self._until is None or now < self._until:
            return None
        job = self._job
        self.stop()
        if job is None:
            return None
        detail = (
            f"the trainer said nothing for {self._silence_s:g} s and was ended; if loading, a step or the "
            "evaluation of a thousand examples takes that long on this device, raise trainer_silence_s in "
            "its settings"
        )
        return _failed(job, DeclineReason.TRAINING_FAILED, detail)

    def _rest(self, now: float, *, warm: bool) -> None:
        self._job, self._until = None, now + self._idle_s
        if self._idle_s <= 0 or not warm:
            self.stop()

    def _new_child(self) -> Child:
        self._ear = _Ear(self._ear.child + 1, self._hear)
        return Child(
            self._module,
            nice=self._nice,
            memory_bytes=self._memory_bytes,
            on_message=self._ear.message,
            on_exit=self._ear.end,
        )

    def _request(self, job: Train | Evaluate) -> Json:
        asked = job.assignment
        request = {
            "verb": "evaluate",
            "data": self._data,
            "runtime": asked.runtime,
            "program": str(self._store.blob(asked.program)),
            "theta": str(self._store.blob(asked.theta)),
            "layout": asked.layout,
            "contract": asked.contract.model_dump(mode="json"),
            "settings": asked.settings.model_dump(mode="json"),
        }
        return request if isinstance(job, Evaluate) else request | self._training(job)

    def _training(self, job: Train) -> Json:
        return {
            "verb": "train",
            "settings": job.settings.model_dump(mode="json"),
            "update": str(self._store.new_update),
            "state": str(self._store.optimizer_state(job.assignment.run)),
            "sealing": None if job.sealing is None else self._sealing(job.assignment, job.sealing),
        }

    def _sealing(self, asked: Assignment, key: str) -> Json:
        context = context_of(self._topics, asked.run, asked.round, self._device)
        return {"key": key, "context": context.decode()}

    def _outcome(self, job: Train | Evaluate, message: Json) -> Outcome:  # noqa: PLR0911  one a kind of answer
        try:
            spoken = _SPOKEN.validate_python(message)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in fault["loc"])
            return _failed(
                job, DeclineReason.TRAINING_FAILED, f"the trainer's answer, {where}: {fault['msg']}"
            )
        match spoken:
            case _Progress():
                return TrainingProgressed(job.job, spoken.progress, spoken.examples_per_s)
            case _Measured() if isinstance(job, Train):
                return SpeedMeasured(job.job, spoken.examples_per_s)
            case _Failed():
                return _failed(job, spoken.reason, spoken.detail)
            case _Evaluated() if isinstance(job, Evaluate):
                return Evaluated(job.job, spoken.metrics)
            case _Trained() if isinstance(job, Train):
                return self._take(job.job, job.assignment, spoken)
        return _failed(job, DeclineReason.TRAINING_FAILED, f"the trainer answered {spoken.event}, unasked")

    def _take(self, job: int, asked: Assignment, spoken: _Trained) -> Outcome:
        try:
            update = self._store.take_update(asked.theta.chunk_bytes)
        except StorageError as error:
            return TrainingFailed(job, DeclineReason.DISK, _printable(str(error)))
        return Trained(job, update, spoken.examples, spoken.metrics, spoken.validation, spoken.seconds)


def default_memory_bytes() -> int:
    """Three quarters of the machine's memory: the rest is for the system, the agent and the device's job."""
    return total_memory_bytes() * 3 // 4


def _is_unsound(outcome: Outcome) -> bool:
    """Whether the child may be out of order, or out of memory, for its next job too."""
    return isinstance(outcome, TrainingFailed) and outcome.reason is DeclineReason.TRAINING_FAILED


def _failed(job: Train | Evaluate, reason: DeclineReason, detail: str) -> TrainingFailed:
    return TrainingFailed(job.job, reason, _printable(detail))


def _printable(detail: str) -> str:
    """Fit for logs and messages: a child says anything, and a file's name may hold bytes that are no text."""
    return "".join(char if char.isprintable() else "?" for char in detail[:MAX_DETAIL])


def inspect_data(data: Json, *, nice: int, module: str = MODULE) -> Mapping[str, Any]:
    """Look at the device's data in a child: `examples`, shape and labels.

    Raises DataError when it is missing, empty or unreadable, ChildError when the child cannot tell.
    """
    answer = ask_once(module, {"verb": "inspect", "data": data}, INSPECT_S, nice=nice)
    if answer.get("event") == "failed":
        raise DataError(_printable(str(answer.get("detail"))))
    if answer.get("event") != "inspected":
        raise ChildError(f"the trainer answered nonsense when it looked at the data: {str(answer)[:80]}")
    if not answer.get("examples"):
        raise DataError(f"{data['path']} holds no examples: look at [data] in the settings")
    return answer
