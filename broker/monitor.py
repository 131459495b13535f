"""The JSON documents under `monitor/`: what people and tools watch, retained and renewed.

Each says how often it is renewed, so that whoever reads it can tell a stale one. Within one `schema_version`
fields are only added, so a reader passes over what it does not know.
"""

import json
from math import isfinite

from pydantic import BaseModel, ConfigDict, Field

from broker.names import DeviceId, Finite, MetricName, RoundNumber, RunId

# Sessions have the broker keep from them what is larger than a chunk may be.
MAX_DOCUMENT_BYTES = 1_000_000
# A larger document of a round leaves out of its participants what is as it is by default.
MAX_PLAIN_BYTES = 16_000
# One that is larger still leaves out more, set by set, until it is not.
MAX_ROUND_BYTES = 64_000
_MEASURES = {"training", "validation", "evaluation"}
_LEFT_OUT: tuple[set[str], ...] = (
    set(),
    {"steps"},
    {"steps", "validation", "seconds", "bytes_up", "bytes_down"},
    {"steps", "seconds", "bytes_up", "bytes_down", *_MEASURES},
)
SCHEMA_VERSION = 1
MAX_HISTORY_ROUNDS = 200
# Far more than a task's own metrics need.
MAX_HISTORY_BYTES = 256_000
MAX_CONFUSION_CLASSES = 100

Means = dict[MetricName, Finite]


class Document(BaseModel):
    """What every document says of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = Field(default=SCHEMA_VERSION, description="another one: do not read it")
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
    started_unix_s: float | None = Field(default=None, description="when this process began to serve")


class FederationDocument(Document):
    """The fleet in numbers, and the active run."""

    devices: int
    live: int
    states: dict[str, int] = Field(default_factory=dict, description="how many devices are in each state")
    run: RunId | None = None
    task: str | None = None
    phase: str
    messages_dropped: int = Field(
        default=0, description="undecodable or unwanted, since the aggregator started"
    )


class IncidentDocument(BaseModel):
    """A mishap of the aggregator's machine, as its ledger has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

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
    ended_unix_s: float | None = None
    parameters: int | None = Field(default=None, description="of the model, once it is built")
    seconds_left: float | None = Field(
        default=None, description="until the last round closes, at the pace of the rounds so far"
    )
    metrics: Means = Field(
        default_factory=dict,
        description="newest on held-out data, or on the devices' own validation data where there is no other",
    )
    reason: str = ""


class RoundSummary(BaseModel):
    """A closed round in one line."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    round: RoundNumber
    outcome: str
    reported: int
    participants: int
    seconds: float = Field(description="from its opening to its close")
    metrics: Means = Field(default_factory=dict, description="on held-out data")
    federated: Means = Field(default_factory=dict, description="on the devices' own validation data")
    bytes_up: int = 0
    bytes_down: int = 0


class HistoryDocument(Document):
    """The closed rounds of a run, oldest first; of over 200, or 256 kB, evenly chosen ones, and the last."""

    run: RunId
    rounds: tuple[RoundSummary, ...]


class ConfusionDocument(Document):
    """What the newest evaluated model took for what, on held-out data; of up to 100 classes."""

    run: RunId
    round: RoundNumber
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...] = Field(description="by true class, then by predicted class")


class StepDocument(BaseModel):
    """When a participant was first heard in a state."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: str = Field(description="a device's state, or `reported` once its update counts")
    at_s: float = Field(description="seconds since the round opened")


class ParticipantDocument(BaseModel):
    """A device's part in a round."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str
    examples: int = 0
    training: Means = Field(default_factory=dict, description="metrics of its own training")
    validation: Means = Field(default_factory=dict, description="its own model on its validation data")
    evaluation: Means = Field(default_factory=dict, description="the round's new model on the same data")
    seconds: float = Field(default=0.0, description="that it trained")
    bytes_up: int = 0
    bytes_down: int = 0
    steps: tuple[StepDocument, ...] = ()
    reason: str = ""


class RoundDocument(Document):
    """A round: phase, participants, outcome."""

    run: RunId
    round: RoundNumber
    phase: str
    target: int
    quorum: int
    reported: int
    opened_unix_s: float | None = None
    seconds: float = Field(default=0.0, description="since it opened, or from its opening to its close")
    seconds_left: float | None = Field(default=None, description="until the phase's deadline")
    eta_s: float | None = Field(
        default=None,
        description="until enough updates are expected, by the participants' heartbeats",
    )
    durations_s: dict[str, float] = Field(default_factory=dict, description="seconds by phase that is over")
    participants: dict[DeviceId, ParticipantDocument] = Field(default_factory=dict)
    outcome: str | None = None
    reason: str = ""
    metrics: Means = Field(default_factory=dict, description="on held-out data")
    federated: Means = Field(default_factory=dict, description="on the devices' own validation data")
    bytes_up: int = Field(default=0, description="bytes of the accepted updates")
    bytes_down: int = Field(default=0, description="blob bytes that participants fetched")

    def payload(self) -> bytes:
        """JSON; of a large round with fewer details of its participants, and metrics of six digits."""
        payload = super().payload()
        if len(payload) <= MAX_PLAIN_BYTES:
            return payload
        for left_out in _LEFT_OUT:
            payload = self._brief(left_out)
            if len(payload) <= MAX_ROUND_BYTES:
                break
        return payload

    def _brief(self, left_out: set[str]) -> bytes:
        parts = {name: _shortened(part, left_out) for name, part in self.participants.items()}
        content = self.model_dump(mode="json", exclude={"participants"})
        return json.dumps(content | {"participants": parts}, separators=(",", ":")).encode()


def _shortened(part: ParticipantDocument, left_out: set[str]) -> dict[str, object]:
    content = part.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    for name in _MEASURES & content.keys():
        content[name] = {metric: float(f"{value:.6g}") for metric, value in content[name].items()}
    return content


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
    battery: float | None = Field(default=None, description="charge left, 0 to 1, where it runs on one")
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
    loss: float | None = Field(default=None, description="of its last training in the active run")
    asked: int = Field(default=0, description="rounds of the run that asked it for an update")
    accepted: int = Field(default=0, description="its updates that count, of those")
    contribution: float | None = Field(
        default=None, description="its part of all examples in the run's updates, 0 to 1"
    )
    reliability: float | None = Field(default=None, description="`accepted` by `asked`, 0 to 1")


def means(metrics: dict[str, tuple[float, float]] | None) -> Means:
    """Turn (sum, weight) pairs into means; those without weight, or not finite, are left out."""
    pairs = (metrics or {}).items()
    # Each of the two is finite, which does not make their quotient so.
    return {
        name: total / weight for name, (total, weight) in pairs if weight > 0 and isfinite(total / weight)
    }
