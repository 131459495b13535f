"""The JSON documents under `monitor/`: what people and tools watch, retained and renewed.

Each says how often it is renewed, so that whoever reads it can tell a stale one.
"""

from math import isfinite

from pydantic import BaseModel, ConfigDict, Field

from broker.names import DeviceId, Finite, MetricName, RoundNumber, RunId

# Sessions have the broker keep from them what is larger than a chunk may be.
MAX_DOCUMENT_BYTES = 1_000_000

Means = dict[MetricName, Finite]


class Document(BaseModel):
    """What every document says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at_unix_s: float = Field(default=0.0, description="when it was written, by the aggregator's clock")
    renewed_every_s: float = Field(default=0.0, description="older than twice this: the aggregator is silent")

    def payload(self) -> bytes:
        """What is published: JSON."""
        return self.model_dump_json().encode()


class AggregatorDocument(Document):
    """Whether the aggregator lives; its will says that it does not."""

    online: bool
    session: int = 0
    version: str = ""


class FederationDocument(Document):
    """The fleet in numbers, and the active run."""

    devices: int
    live: int
    run: RunId | None = None
    task: str | None = None
    phase: str
    messages_dropped: int = Field(
        default=0, description="undecodable or unwanted, since the aggregator started"
    )


class IncidentDocument(BaseModel):
    """A mishap of the aggregator's machine, as its ledger has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(description="`damaged` or `no-room`")
    at_unix_s: float
    run: RunId | None = None
    round: RoundNumber | None = None
    subject: str = Field(description="the file, below the aggregator's folder, or what could not be written")
    detail: str


class IncidentsDocument(Document):
    """What somebody should look at, newest first; the ledger keeps the older ones."""

    incidents: tuple[IncidentDocument, ...]


class RunDocument(Document):
    """A run: its state, and the newest metrics of its model."""

    run: RunId
    task: str
    state: str
    round: int
    rounds: int
    started_unix_s: float
    metrics: Means = Field(
        default_factory=dict,
        description="newest on held-out data, or on the devices' own validation data where there is no other",
    )
    reason: str = ""


class ParticipantDocument(BaseModel):
    """A device's part in a round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: str
    examples: int = 0
    validation: Means = Field(default_factory=dict)
    reason: str = ""


class RoundDocument(Document):
    """A round: phase, participants, outcome."""

    run: RunId
    round: RoundNumber
    phase: str
    target: int
    quorum: int
    reported: int
    seconds_left: float | None = None
    participants: dict[DeviceId, ParticipantDocument] = Field(default_factory=dict)
    outcome: str | None = None
    reason: str = ""
    metrics: Means = Field(default_factory=dict)
    federated: Means = Field(default_factory=dict)
    bytes_up: int = Field(default=0, description="bytes of the accepted updates")

    def payload(self) -> bytes:
        """JSON; where that would be too large to send, participants go without their `validation`."""
        whole = super().payload()
        if len(whole) <= MAX_DOCUMENT_BYTES:
            return whole
        return self.model_dump_json(exclude={"participants": {"__all__": {"validation"}}}).encode()


class DeviceDocument(Document):
    """A device: whether it lives, what it does, how far it is."""

    device: DeviceId
    live: bool
    state: str
    run: RunId | None = None
    round: int | None = None
    progress: float = 0.0
    examples_per_s: float = 0.0
    memory_bytes: int = 0
    temperature_c: float | None = None
    examples: int = 0
    runtimes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    version: str = ""
    bytes_up: int = Field(default=0, description="update bytes sent since the agent started")
    bytes_down: int = Field(default=0, description="blob bytes received since the agent started")
    heard_at_unix_s: float | None = Field(
        default=None, description="when it was last heard, by the aggregator's clock, as of `at_unix_s`"
    )
    conflict: bool = Field(default=False, description="two machines use this id")
    measured_per_s: float | None = Field(
        default=None, description="examples a second that it trains with the active run's program"
    )
    seconds_left: float | None = Field(
        default=None,
        description="until its update is due, by progress and measured rates; what was never measured is 0",
    )
    not_selected: str = Field(default="", description="why no round of the active run selects it")
    metrics: Means = Field(default_factory=dict, description="last validation metrics it reported")


def means(metrics: dict[str, tuple[float, float]] | None) -> Means:
    """Turn (sum, weight) pairs into means; those without weight, or not finite, are left out."""
    pairs = (metrics or {}).items()
    # Each of the two is finite, which does not make their quotient so.
    return {
        name: total / weight for name, (total, weight) in pairs if weight > 0 and isfinite(total / weight)
    }
