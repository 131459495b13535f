"""What happened in a federation: the stream `monitor/events`, and its newest ones, retained."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from broker.monitor import Document
from broker.names import DeviceId, RoundNumber, RunId

MAX_RECENT = 50


class EventKind(StrEnum):
    """What sort of thing happened."""

    RUN_STARTED = "run-started"
    RUN_ENDED = "run-ended"
    RUN_PAUSED = "run-paused"
    RUN_RESUMED = "run-resumed"
    ROUND_OPENED = "round-opened"
    ROUND_CLOSED = "round-closed"
    JOINED = "joined"
    LOST = "lost"
    BACK = "back"
    STRAGGLER = "straggler"
    REJECTED = "rejected"
    LATE = "late"
    DECLINED = "declined"
    INVITED = "invited"
    EXCLUDED = "excluded"
    ADMITTED = "admitted"
    CONFLICT = "conflict"
    COMMAND = "command"
    INCIDENT = "incident"
    SKIPPED = "skipped"


class Severity(StrEnum):
    """Whether somebody should look."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Happening(BaseModel):
    """One event."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int = Field(
        description="counts up from 1 in each session of the aggregator; up to 0, in `monitor/recent`, "
        "stands what its ledger has of earlier ones"
    )
    at_unix_s: float
    kind: EventKind
    severity: Severity = Severity.INFO
    text: str = Field(description="one line for people")
    run: RunId | None = None
    round: RoundNumber | None = None
    device: DeviceId | None = None
    reason: str = Field(default="", description="why, as a word or a line")
    user: str | None = Field(default=None, description="who gave the command")
    before: str = Field(default="", description="what a command changed, as it was")
    after: str = Field(default="", description="what a command changed, as it is now")


class EventDocument(Happening):
    """What `monitor/events` carries: an event as it happens."""

    schema_version: int = Document.model_fields["schema_version"].default
    session: int = Field(description="the aggregator's session, which `number` counts in")


class RecentDocument(Document):
    """The newest events, oldest first, for whoever comes late."""

    session: int
    events: tuple[Happening, ...]
