"""What the coordinator must not forget: the active run, as one document that is its own snapshot."""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from aggregator.coordinator.phases import Phase
from aggregator.run_settings import RunSettings
from broker.contract import DataContract, Needs
from broker.messages import BlobRef, DeclineReason, RejectReason
from broker.names import Metrics


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=False)


class Step(NamedTuple):
    """When a participant was first heard in a state, in seconds since the round opened.

    A tuple, for a snapshot holds some of each participant.
    """

    state: str
    at_s: float


class Participant(_State):
    """A device's part in a round: invited, until it is accepted, rejected or declined."""

    accepted: str | None = Field(default=None, description="digest of the update that counts")
    examples: int = 0
    size: int = Field(default=0, description="bytes of the update")
    invited: bool = Field(default=False, description="joined after the announcement, by its inbox")
    again: bool = Field(default=False, description="its accepted update was damaged: asked once more")
    training: Metrics = Field(default_factory=dict)
    validation: Metrics = Field(default_factory=dict)
    seconds: float = Field(default=0.0, description="that it trained")
    bytes_down: int = Field(default=0, description="blob bytes that it fetched for the round")
    counted_down: int | None = Field(default=None, description="its own counter of these, as last heard")
    steps: list[Step] = Field(default_factory=list, description="what it was heard to do, in that order")
    rejected: RejectReason | None = None
    declined: DeclineReason | None = None
    reported_s: float = Field(default=0.0, description="seconds into the round when its update was accepted")
    straggles: bool = Field(default=False, description="no longer waited for; its update would count")
    note: str = Field(default="", description="the newest decision about it")

    @property
    def outstanding(self) -> bool:
        """Whether an update may still come."""
        return self.accepted is None and self.rejected is None and self.declined is None


class Carried(_State):
    """An update in the spool for the next new model; `models` were made when its training began."""

    device: str
    round: int
    models: int
    examples: int
    digest: str
    size: int


class Late(_State):
    """The round that closed last, and who may still deliver an update of it."""

    round: int
    models: int = Field(description="that the run had made when the round began")
    owing: list[str]


class Round(_State):
    """The open round."""

    number: int
    target: int
    quorum: int
    cohort: dict[str, Participant]
    open_s: float = Field(default=0.0, description="so far; a pause is no part of it")
    deadline_s: float = Field(default=0.0, description="time for training and upload, with the grace given")
    grace_given: bool = False
    note: str = Field(default="", description="decisions about the round as a whole")
    centrally_evaluated: bool = False
    evaluation_failed: str = ""
    metrics: Metrics | None = None
    carried: list[Carried] = Field(default_factory=list, description="late updates that its model takes in")
    reports: dict[str, Metrics | None] = Field(default_factory=dict)

    @property
    def accepted(self) -> list[str]:
        """Devices whose update counts, sorted: the order in which they are aggregated."""
        return sorted(name for name, part in self.cohort.items() if part.accepted)

    @property
    def outstanding(self) -> list[str]:
        """Devices whose update may still come, in no order."""
        return [name for name, part in self.cohort.items() if part.outstanding]


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


class BackOff(_State):
    """A device failed so many rounds in a row, last in `round`: it is asked again from `until` on."""

    failures: int
    round: int
    until: int

    @property
    def why(self) -> str:
        """For people."""
        return f"failed {self.failures} rounds in a row: asked again from round {self.until} on"


class Experience(_State):
    """What the rounds of a run taught."""

    deadline_s: float | None = Field(default=None, description="of the next round, by the times of updates")
    typical_s: float | None = Field(
        default=None, description="into a round, when half of its updates were there"
    )
    dropped: float = Field(default=0.0, description="participants that dropped out; old ones count less")
    asked: float = Field(default=0.0, description="participants that delivered or dropped out, likewise")
    back_offs: dict[str, BackOff] = Field(default_factory=dict, description="by device")

    def backs_off(self, device: str, number: int) -> bool:
        """Whether this round is not to ask a device, for it failed the last ones."""
        return device in self.back_offs and number < self.back_offs[device].until


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
    experience: Experience = Field(default_factory=Experience)
    late: Late | None = None
    carried: list[Carried] = Field(default_factory=list, description="late updates for the next new model")
    declined: dict[str, LastingDecline] = Field(default_factory=dict, description="by device")
    waits_for_disk: bool = Field(default=False, description="paused until the disk has room again")
    paused: str | None = Field(default=None, description="why, while it is paused")
    time_left_s: float | None = None
    complaint: str = Field(default="", description="of stop_when, about the newest evaluation")

    @property
    def carries(self) -> bool:
        """Whether late updates of the open round count in the next one: after the last there is none."""
        return self.settings.late == "carry" and self.completed + 1 < self.settings.rounds

    @property
    def spooled(self) -> set[int]:
        """Rounds whose updates are still needed."""
        late = {self.late.round} if self.late is not None else set()
        open_one = {self.round.number} | {one.round for one in self.round.carried} if self.round else set()
        return open_one | late | {one.round for one in self.carried}


class Snapshot(_State):
    """The coordinator's whole memory."""

    run: Run | None = None
