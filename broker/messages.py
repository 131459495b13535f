"""The control messages: one frozen model each, as docs/protocol.md lists them.

The topic, never the payload, says which device a message is from or for.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

from broker.contract import DataContract, Needs
from broker.names import (
    ConnectionId,
    DeviceId,
    Digest,
    Finite,
    Metrics,
    PublicKey,
    RoundNumber,
    RunId,
    ShortText,
    TransferId,
)

MINOR = 0
MAX_UPDATE_BYTES = 4 << 30
MAX_PROGRAM_BYTES = 8 << 20
MAX_CHUNK_BYTES = 1 << 20
MIN_CHUNK_BYTES = 1 << 10
MAX_GRANTED_CHUNKS = 64
MAX_SEALED_BYTES = 64 << 10
MAX_SPEEDS = 8

Fraction = Annotated[float, Field(ge=0, le=1)]
Speeds = Annotated[dict[Digest, Annotated[Finite, Field(ge=0)]], Field(max_length=MAX_SPEEDS)]


class Part(BaseModel):
    """A value inside a message."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Message(Part):
    """A whole payload; keys we do not know are allowed only from a higher minor version."""

    minor: int = Field(default=MINOR, ge=0, le=1_000_000)


class Word(StrEnum):
    """An enumeration that travels as its text, although messages are strict about types otherwise."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401
        """Accept the text as well as the member."""
        return {**handler(source), "strict": False}


class BlobRef(Part):
    """Names a blob by its content: fetched as `chunks` retained chunks, checked by `digest`."""

    digest: Digest
    size: int = Field(ge=1, le=MAX_UPDATE_BYTES)
    chunk_bytes: int = Field(ge=MIN_CHUNK_BYTES, le=MAX_CHUNK_BYTES)

    @property
    def chunks(self) -> int:
        """How many chunks the blob has."""
        return -(-self.size // self.chunk_bytes)

    @property
    def transfer(self) -> str:
        """The id under which its chunks travel when a device uploads it."""
        return self.digest[:16]


class Federation(Message):
    """Retained: who aggregates, since when, and the rhythm that the fleet keeps."""

    session: int = Field(ge=0, description="rises with every start of the aggregator; lower ones are stale")
    version: ShortText
    heartbeat_s: float = Field(ge=0.1, le=3600)
    aggregator_key: PublicKey = Field(description="for people to compare; nobody obeys a key for its sake")


class RoundKind(Word):
    """What a round is for."""

    TRAIN = "train"


class AssignmentPhase(Word):
    """The part of a round that devices take part in."""

    TRAINING = "training"
    EVALUATING = "evaluating"
    PAUSED = "paused"


class RateSchedule(Part):
    """How the learning rate changes over a run, and which rounds of it this training is; all in rounds."""

    shape: Literal["constant", "linear", "cosine"] = Field(description="of the way down after the warm-up")
    begin: int = Field(ge=0, description="completed rounds before this training")
    end: int = Field(ge=1, description="completed rounds after it")
    rounds: int = Field(ge=1, le=1_000_000, description="of the whole run")
    warmup_rounds: int = Field(default=0, ge=0, description="in which the rate rises from 0, in a line")
    final_rate: Fraction = Field(
        default=0.0, description="at the end of the run, as a fraction of the learning rate"
    )

    @model_validator(mode="after")
    def _within_the_run(self) -> "RateSchedule":
        if not self.begin < self.end <= self.rounds or self.warmup_rounds > self.rounds:
            raise ValueError(
                f"training from round {self.begin} to {self.end}, with {self.warmup_rounds} of warm-up, "
                f"is no part of a run of {self.rounds}"
            )
        return self


class TrainingSettings(Part):
    """How a device trains: exactly one of `epochs` and `steps`."""

    epochs: int | None = Field(default=1, ge=1, le=100_000)
    steps: int | None = Field(default=None, ge=1, le=100_000_000)
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    learning_rate: float | None = Field(default=None, gt=0, description="None: as the task compiled it")
    schedule: RateSchedule | None = Field(default=None, description="None: the learning rate stays")
    proximal: float = Field(default=0.0, ge=0, description="FedProx: pull back to the round's theta")
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest L2 norm of a step's gradient; None: any"
    )
    short_batch: Literal["refill", "drop"] = Field(
        default="refill", description="a short batch of a model with batch statistics"
    )
    optimizer_state: Literal["reset", "keep"] = "reset"
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    seed: int = Field(default=0, ge=0, lt=1 << 63)

    @model_validator(mode="before")
    @classmethod
    def _steps_replace_epochs(cls, fields: Any) -> Any:  # noqa: ANN401 - whatever was given
        # Neither the wire nor TOML writes a None that would lift the default.
        if isinstance(fields, dict) and fields.get("steps") is not None:
            return {"epochs": None, **fields}
        return fields

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingSettings":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give epochs or steps, not both and not neither")
        return self


class Assignment(Part):
    """What a round asks of devices."""

    run: RunId
    round: RoundNumber
    kind: RoundKind = RoundKind.TRAIN
    phase: AssignmentPhase
    theta: BlobRef
    program: BlobRef
    layout: Digest
    runtime: ShortText
    contract: DataContract
    needs: Needs = Field(default_factory=Needs)
    settings: TrainingSettings
    carries: bool = Field(
        default=False, description="an update after the round counts in the next one: train to the end"
    )
    cohort: Annotated[tuple[DeviceId, ...], Field(max_length=4096)] | None = Field(
        default=None, description="None: every device"
    )


class Announcement(Message):
    """The current assignment, or none. Time left is the message's expiry, in seconds."""

    session: int = Field(ge=0)
    sequence: int = Field(ge=0, description="rises with every announcement of a session")
    assignment: Assignment | None = None
    sealing_key: PublicKey | None = Field(
        default=None,
        description="X25519: seal to it what the aggregator alone is to read; None: seal nothing",
    )


class DeclineReason(Word):
    """Why a device does not take part in a round."""

    CONTRACT = "contract"
    DATA = "data"
    RUNTIME = "runtime"
    PROGRAM = "program"
    TRAINING_FAILED = "training-failed"
    DISK = "disk"
    NEEDS = "needs"
    PAUSED = "paused"
    HOURS = "hours"
    HEAT = "heat"
    THROTTLED = "throttled"
    BATTERY = "battery"
    MEMORY = "memory"


class Presence(Message):
    """Retained: a birth (`online`), or a death from the will of the same connection."""

    online: bool
    connection: ConnectionId
    version: ShortText = ""
    machine: ShortText = ""
    cores: int = Field(default=0, ge=0)
    memory_bytes: int = Field(default=0, ge=0)
    runtimes: tuple[ShortText, ...] = Field(default=(), max_length=16)
    tags: tuple[ShortText, ...] = Field(default=(), max_length=32)
    examples: int = Field(default=0, ge=0)
    speeds: Speeds = Field(
        default_factory=dict, description="examples a second, measured, by digest of the training program"
    )
    unavailable: DeclineReason | None = Field(
        default=None, description="why it would decline any round now; said again when that changes"
    )
    detail: ShortText = Field(default="", description="the same as a sentence")
    sealed: bytes | None = Field(
        default=None,
        max_length=MAX_SEALED_BYTES,
        description="an Envelope with all of the birth, whose other fields are then left out",
    )


class AgentState(Word):
    """What a device is doing."""

    IDLE = "idle"
    FETCHING = "fetching"
    TRAINING = "training"
    UPLOADING = "uploading"
    EVALUATING = "evaluating"
    DISPLACED = "displaced"


class Heartbeat(Message):
    """Proof of life, with the progress of the work in hand."""

    connection: ConnectionId
    state: AgentState
    run: RunId | None = None
    round: RoundNumber | None = None
    progress: Fraction = 0.0
    examples_per_s: float = Field(default=0.0, ge=0)
    memory_bytes: int = Field(default=0, ge=0)
    temperature_c: Finite | None = None
    battery: Fraction | None = Field(default=None, description="charge left, where it runs on one")
    bytes_up: int = Field(default=0, ge=0, description="update bytes sent since the agent started")
    bytes_down: int = Field(default=0, ge=0, description="blob bytes received since the agent started")


class Offer(Message):
    """An update for this run and round is ready: repeated with back-off until a receipt answers it."""

    run: RunId
    round: RoundNumber
    update: BlobRef
    examples: int = Field(ge=1, le=1 << 40, description="the update's weight in the mean")
    metrics: Metrics = Field(default_factory=dict)
    validation: Metrics = Field(default_factory=dict)
    seconds: float = Field(default=0.0, ge=0, description="time spent training")


class Report(Message):
    """Evaluation metrics of a round's new model, or a declined round and why."""

    run: RunId
    round: RoundNumber
    metrics: Metrics | None = None
    declined: DeclineReason | None = None
    detail: ShortText = ""


class ReceiptOutcome(Word):
    """The final answer to an offer; whatever it is, the device then deletes its update."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    REJECTED = "rejected"
    UNKNOWN_RUN = "unknown-run"


class RejectReason(Word):
    """Why the content of an update was not taken."""

    DIGEST = "wrong-digest"
    MALFORMED = "malformed"
    LAYOUT = "wrong-layout"
    NOT_FINITE = "not-finite"
    NORM = "norm-too-large"
    TOO_LARGE = "too-large"
    NOT_INVITED = "not-in-cohort"
    SEAL = "wrong-seal"


class Invite(Message):
    """Adds a device to the cohort of the announced round, in place of a lost one."""

    type: Literal["invite"] = "invite"
    run: RunId
    round: RoundNumber
    again: bool = Field(
        default=False, description="train once more: the update that was accepted got damaged here"
    )


class Grant(Message):
    """Allows the named chunks of an offered update, once; those that got lost are named again."""

    type: Literal["grant"] = "grant"
    run: RunId
    round: RoundNumber
    transfer: TransferId
    indexes: tuple[Annotated[int, Field(ge=0)], ...] = Field(max_length=MAX_GRANTED_CHUNKS)


class Receipt(Message):
    """The final answer to an offer."""

    type: Literal["receipt"] = "receipt"
    run: RunId
    round: RoundNumber
    transfer: TransferId
    outcome: ReceiptOutcome
    reason: RejectReason | None = None


Inbox = Annotated[Invite | Grant | Receipt, Field(discriminator="type")]
