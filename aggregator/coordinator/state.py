"""What the coordinator must not forget: the active run, as one document that is its own snapshot."""

from pydantic import BaseModel, ConfigDict, Field

from aggregator.coordinator.phases import Phase
from aggregator.run_settings import RunSettings
from broker.contract import DataContract, Needs
from broker.messages import BlobRef, DeclineReason, RejectReason
from broker.names import Metrics


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=False)


class Participant(_State):
    """A device's part in a round: invited, until it is accepted, rejected or declined."""

    accepted: str | None = Field(default=None, description="digest of the update that counts")
    examples: int = 0
    size: int = Field(default=0, description="bytes of the update")
    invited: bool = Field(default=False, description="joined after the announcement, by its inbox")
    again: bool = Field(default=False, description="its accepted update was damaged: asked once more")
    validation: Metrics = Field(default_factory=dict)
    rejected: RejectReason | None = None
    declined: DeclineReason | None = None

    @property
    def outstanding(self) -> bool:
        """Whether an update may still come."""
        return self.accepted is None and self.rejected is None and self.declined is None


class Round(_State):
    """The open round."""

    number: int
    target: int
    quorum: int
    cohort: dict[str, Participant]
    centrally_evaluated: bool = False
    evaluation_failed: str = ""
    metrics: Metrics | None = None
    reports: dict[str, Metrics | None] = Field(default_factory=dict)

    @property
    def accepted(self) -> list[str]:
        """Devices whose update counts, sorted: the order in which they are aggregated."""
        return sorted(name for name, part in self.cohort.items() if part.accepted)


class Model(_State):
    """What a built task gave: blobs, and what devices must know to use them."""

    theta: BlobRef
    program: BlobRef
    layout: str
    runtime: str
    contract: DataContract
    parameters: int
    needs: Needs = Needs()

    @property
    def blobs(self) -> tuple[BlobRef, BlobRef]:
        """What devices fetch."""
        return (self.program, self.theta)


class LastingDecline(_State):
    """Why a device is asked no more in this run, as long as it keeps the connection it had then."""

    connection: str
    why: str


class Run(_State):
    """The active run. `time_left_s` stands for the deadline in a snapshot and while paused."""

    run: str
    task: str
    settings: RunSettings
    phase: Phase = Phase.PREPARING
    model: Model | None = None
    round: Round | None = None
    last_round: int = 0
    completed: int = 0
    abandoned_in_a_row: int = 0
    declined: dict[str, LastingDecline] = Field(default_factory=dict, description="by device")
    waits_for_disk: bool = Field(default=False, description="paused until the disk has room again")
    paused: str | None = Field(default=None, description="why, while it is paused")
    time_left_s: float | None = None
    complaint: str = Field(default="", description="of stop_when, about the newest evaluation")


class Snapshot(_State):
    """The coordinator's whole memory."""

    run: Run | None = None
