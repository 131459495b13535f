"""What a webhook is told."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from broker.happenings import Severity
from broker.monitor import Document, RunDocument
from broker.names import DeviceId, RoundNumber, RunId

MAX_NAMED = 100


class NoticeKind(StrEnum):
    """Why somebody is called."""

    RUN_ENDED = "run-ended"
    RUN_PAUSED = "run-paused"
    RUN_STALLED = "run-stalled"
    CONFLICT = "conflict"
    LOST = "lost"
    REJECTED = "rejected"
    INCIDENT = "incident"


class Notice(BaseModel):
    """Something that somebody should know."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = Document.model_fields["schema_version"].default
    id: str = Field(description="the same each time that this notice is sent again")
    federation: str
    kind: NoticeKind = Field(description="why somebody is called")
    severity: Severity = Field(description="`info`, `warning` or `error`")
    text: str = Field(description="one line for people")
    at_unix_s: float
    reason: str = ""
    round: RoundNumber | None = None
    devices: tuple[DeviceId, ...] = Field(
        default=(), description="whom it is about; the first hundred of them"
    )
    run: RunId | None = None
    summary: RunDocument | None = Field(default=None, description="the run's newest document")
