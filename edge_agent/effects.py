"""What the lifecycle asks of the shell, in the order in which it is to be done."""

from dataclasses import dataclass

from broker.messages import Assignment, BlobRef, Message, TrainingSettings
from broker.topics import Branch
from edge_agent.snapshot import Snapshot


@dataclass(frozen=True)
class Persist:
    """Have this on the disk before any later effect of the batch; always the first of its batch."""

    snapshot: Snapshot


@dataclass(frozen=True)
class Publish:
    """Say this on a topic of ours; the branch says with which QoS and whether it is retained."""

    branch: Branch
    message: Message


@dataclass(frozen=True)
class Fetch:
    """Get these blobs, those that are not on disk, and drop all others."""

    refs: tuple[BlobRef, ...]


@dataclass(frozen=True)
class StopFetching:
    """Subscribe to no blob any more."""


@dataclass(frozen=True)
class Train:
    """Start the trainer on a job: the outcome comes back under its number."""

    job: int
    assignment: Assignment
    settings: TrainingSettings
    sealing: str | None = None
    """The key to seal the update to."""


@dataclass(frozen=True)
class Evaluate:
    """Let the trainer measure the assignment's theta."""

    job: int
    assignment: Assignment


@dataclass(frozen=True)
class StopTraining:
    """Kill the trainer; nothing of its job is wanted any more."""


@dataclass(frozen=True)
class SendChunks:
    """Upload these chunks of the pending update, a few at a time."""

    update: BlobRef
    indexes: tuple[int, ...]


@dataclass(frozen=True)
class DeleteUpdate:
    """Remove the update's file and send no more of it."""

    transfer: str


@dataclass(frozen=True)
class Log:
    """A line for people; `run` and `round` where it is about others than those in hand."""

    text: str
    warning: bool = False
    run: str | None = None
    round: int | None = None


@dataclass(frozen=True)
class Reject:
    """The event made no sense now and changed nothing; a `warning` is for people to look at."""

    reason: str
    warning: bool = False


Effect = (
    Persist
    | Publish
    | Fetch
    | StopFetching
    | Train
    | Evaluate
    | StopTraining
    | SendChunks
    | DeleteUpdate
    | Log
    | Reject
)
