"""What the lifecycle is told: what the broker delivered, what became of its effects, the time.

`Federation`, `Announcement`, `Invite`, `Grant` and `Receipt` are events as they are.
"""

from dataclasses import dataclass
from enum import StrEnum

from broker.messages import Announcement, BlobRef, DeclineReason, Federation, Grant, Invite, Presence, Receipt
from broker.names import Metrics
from edge_agent.availability import Hindrance


@dataclass(frozen=True)
class Connected:
    """The broker took us in, under this random connection id."""

    connection: str


@dataclass(frozen=True)
class Disconnected:
    """The connection is gone; the session tries again by itself."""


@dataclass(frozen=True)
class PresenceSeen:
    """Our own presence topic said this; `retained` when it is the broker's stored copy."""

    presence: Presence
    retained: bool


class FetchFault(StrEnum):
    """Why a blob is not on disk."""

    CONTENT = "content"
    STORAGE = "storage"


@dataclass(frozen=True)
class Fetched:
    """A blob is whole, checked and on disk."""

    digest: str


@dataclass(frozen=True)
class FetchFailed:
    """A blob could not be had."""

    digest: str
    fault: FetchFault
    detail: str


@dataclass(frozen=True)
class TrainingProgressed:
    """The trainer is this far (0..1) with its job."""

    job: int
    progress: float
    examples_per_s: float


@dataclass(frozen=True)
class SpeedMeasured:
    """The trainer knows how fast its job goes; it goes on with it."""

    job: int
    examples_per_s: float


@dataclass(frozen=True)
class Trained:
    """The trainer wrote an update, and it lies in the state folder under its transfer id."""

    job: int
    update: BlobRef
    examples: int
    metrics: Metrics
    validation: Metrics
    seconds: float


@dataclass(frozen=True)
class Evaluated:
    """The trainer measured the round's new model on the device's data."""

    job: int
    metrics: Metrics


@dataclass(frozen=True)
class TrainingFailed:
    """The trainer says why it cannot do its job; trying again would not help."""

    job: int
    reason: DeclineReason
    detail: str


@dataclass(frozen=True)
class TrainerDied:
    """The trainer process ended in the middle of its job."""

    job: int
    detail: str


@dataclass(frozen=True)
class UpdateLost:
    """The file of the pending update cannot be read."""

    transfer: str
    detail: str


@dataclass(frozen=True)
class VitalsMeasured:
    """What the machine feels like, for the next heartbeat."""

    memory_bytes: int
    temperature_c: float | None
    battery: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True)
class AvailabilityJudged:
    """Whether something hinders this device now from taking part in rounds."""

    hindrance: Hindrance | None


@dataclass(frozen=True)
class TimerFired:
    """The time that `next_deadline` named has come."""


Event = (
    Connected
    | Disconnected
    | PresenceSeen
    | Federation
    | Announcement
    | Invite
    | Grant
    | Receipt
    | Fetched
    | FetchFailed
    | TrainingProgressed
    | SpeedMeasured
    | Trained
    | Evaluated
    | TrainingFailed
    | TrainerDied
    | UpdateLost
    | VitalsMeasured
    | AvailabilityJudged
    | TimerFired
)
