"""What the coordinator wants remembered: facts for the ledger, in the order in which they happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from broker.messages import BlobRef, DeclineReason, ReceiptOutcome, RejectReason
from broker.names import Metrics

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins; `parent` is the run or model it was warm-started from, `request` the operator's id."""

    run: str
    task: str
    settings: Mapping[str, JSON]
    seed: int
    parent: str | None = None
    request: str | None = None


@dataclass(frozen=True, slots=True)
class RunPrepared:
    """The run's first theta and its training program exist; `layout` is a digest, `parameters` is P."""

    run: str
    theta: BlobRef
    program: BlobRef
    layout: str
    parameters: int


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run is over, whatever the outcome."""

    run: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """A round begins with its cohort; its number is never used again."""

    run: str
    round: int
    cohort: tuple[str, ...]
    target: int
    quorum: int


@dataclass(frozen=True, slots=True)
class Invited:
    """A device joined the cohort of an open round."""

    run: str
    round: int
    device: str


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided about a round, or about a device in it, and why."""

    run: str
    round: int
    device: str | None
    decision: str
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateAccepted:
    """An update lies synced in the spool and counts: `examples` is its weight, `seconds` of training."""

    run: str
    round: int
    device: str
    digest: str
    size: int
    examples: int
    metrics: Metrics
    validation: Metrics
    seconds: float


@dataclass(frozen=True, slots=True)
class UpdateLost:
    """An accepted update was found damaged in the spool: it counts no more, and may come again."""

    run: str
    round: int
    device: str
    digest: str


class IncidentKind(StrEnum):
    """What kind of mishap somebody should look at."""

    DAMAGED = "damaged"
    NO_ROOM = "no-room"


@dataclass(frozen=True, slots=True)
class Incident:
    """A mishap of the machine; `subject` is what it befell: a path, or a part of the service."""

    kind: IncidentKind
    run: str | None
    round: int | None
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class UpdateRefused:
    """An offer was answered with something else than `accepted`."""

    run: str
    round: int
    device: str
    outcome: ReceiptOutcome
    reason: RejectReason | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """A device evaluated the round's new model."""

    run: str
    round: int
    device: str
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Declined:
    """A device does not take part in the round."""

    run: str
    round: int
    device: str
    reason: DeclineReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """How a participant spent a round that is about to close: (state, seconds since it opened), in order."""

    run: str
    round: int
    device: str
    steps: tuple[tuple[str, float], ...]
    bytes_down: int


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """A round is over and left `theta`; `metrics` is the central evaluation, `federated` the fleet's."""

    run: str
    round: int
    outcome: str
    reason: str
    theta: BlobRef
    metrics: Metrics | None = None
    federated: Metrics | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """The coordinator went from one state to another; `round` is None outside of rounds."""

    run: str
    round: int | None
    source: str
    target: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A user's request was carried out; asked again under the same `id`, it gets the same `reply`."""

    id: str
    user: str
    verb: str
    arguments: Mapping[str, JSON]
    before: str
    after: str
    reply: bytes


@dataclass(frozen=True, slots=True)
class DeviceExcluded:
    """Nothing of this device is heard from now on, in whatever run."""

    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceAdmitted:
    """A device that was excluded is heard again."""

    device: str


Record: TypeAlias = (
    RunStarted
    | RunPrepared
    | RunEnded
    | RoundOpened
    | Invited
    | Decided
    | UpdateAccepted
    | UpdateLost
    | Incident
    | UpdateRefused
    | Reported
    | Declined
    | Course
    | RoundClosed
    | Transition
    | RequestAnswered
    | DeviceExcluded
    | DeviceAdmitted
)
