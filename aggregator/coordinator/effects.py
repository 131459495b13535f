"""What the coordinator asks for. In every list a `Persist` comes first, and is done before the rest."""

from dataclasses import dataclass
from typing import TypeAlias

from aggregator.records import Record
from aggregator.run_settings import RunSettings
from broker.messages import Assignment, BlobRef, Invite, Offer, Receipt


@dataclass(frozen=True, slots=True)
class Reject:
    """The event is not legal now; nothing changed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Persist:
    """Commit these records and the snapshot in one transaction."""

    records: tuple[Record, ...]
    snapshot: bytes


@dataclass(frozen=True, slots=True)
class Prepare:
    """Build the task's model and write its first theta and program."""

    run: str
    task: str
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class PublishBlobs:
    """Put the chunks of these blobs on the broker, and say `BlobsPublished` when all are acknowledged."""

    run: str
    blobs: tuple[BlobRef, ...]


@dataclass(frozen=True, slots=True)
class RetractBlobs:
    """Take the chunks of all blobs but these off the broker."""

    keep: tuple[BlobRef, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """Publish the assignment, or that there is none; it expires when its time is up (None: never)."""

    assignment: Assignment | None
    expiry_s: float | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Put a message in a device's inbox."""

    device: str
    message: Invite | Receipt


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the intake fetch this update when its turn comes."""

    device: str
    offer: Offer


@dataclass(frozen=True, slots=True)
class AnswerFromLedger:
    """The offer is not for an open round: the ledger knows the final answer."""

    device: str
    offer: Offer


@dataclass(frozen=True, slots=True)
class DropUploads:
    """Uploads of this round are no longer wanted."""

    run: str
    round: int


@dataclass(frozen=True, slots=True)
class CarriedUpdate:
    """An update of an earlier round; its examples count only `weight` times."""

    device: str
    round: int
    examples: int
    weight: float


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Run the strategy over these updates in the spool, (device, examples) in order of device."""

    run: str
    round: int
    strategy: str
    theta: BlobRef
    updates: tuple[tuple[str, int], ...]
    carried: tuple[CarriedUpdate, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Save the round's model file and evaluate it on the task's held-out data."""

    run: str
    round: int
    task: str
    theta: BlobRef


@dataclass(frozen=True, slots=True)
class WriteHistory:
    """Bring the run's folder up to date: history, newest model."""

    run: str


Effect: TypeAlias = (
    Reject
    | Persist
    | Prepare
    | PublishBlobs
    | RetractBlobs
    | Announce
    | Send
    | Admit
    | AnswerFromLedger
    | DropUploads
    | Aggregate
    | Evaluate
    | WriteHistory
)
