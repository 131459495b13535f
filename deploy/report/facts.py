"""What the ledger tells of a run, summed up: sizes do not grow with rounds times devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.monitor import Means


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run; `theta`, `program` and `layout` are SHA-256 digests, once it was prepared."""

    run: str
    task: str
    settings: Mapping[str, Any]
    seed: int
    parent: str | None
    user: str | None
    started_unix_s: float
    ended_unix_s: float | None
    outcome: str | None
    reason: str
    parameters: int | None
    theta: str | None
    program: str | None
    layout: str | None

    @property
    def state(self) -> str:
        """How it ended, or that it did not."""
        return self.outcome or "active"


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """A round; `outcome` is None while it is open. Bytes are of updates and of blobs."""

    round: int
    outcome: str | None
    reason: str
    target: int
    quorum: int
    asked: int
    accepted: int
    bytes_up: int
    bytes_down: int
    opened_unix_s: float
    closed_unix_s: float | None
    metrics: Means
    federated: Means

    @property
    def seconds(self) -> float | None:
        """From its opening to its close; None while it is open."""
        return None if self.closed_unix_s is None else self.closed_unix_s - self.opened_unix_s

    @property
    def decisive(self) -> Means:
        """On held-out data; where there is none, on the devices' own validation data."""
        return self.metrics or self.federated


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device's part in all rounds; `examples` of its newest update, `seconds` of training in all.

    `silent` are closed rounds that asked it, and got neither an update nor a word why not.
    """

    device: str
    asked: int
    accepted: int
    declined: int
    refused: int
    silent: int
    examples: int
    bytes_up: int
    bytes_down: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Values of devices: least, lower quartile, median, upper quartile, most."""

    count: int
    least: float
    lower: float
    median: float
    upper: float
    most: float


@dataclass(frozen=True, slots=True)
class RoundSpread:
    """By metric, of one round: the devices' `own` models, and its new `federated` model on the same data."""

    round: int
    own: Mapping[str, Spread]
    federated: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Fit:
    """A device's validation data in its newest round with any: its own model, and the new federated one."""

    device: str
    round: int
    own: Means
    federated: Means


@dataclass(frozen=True, slots=True)
class Course:
    """How a device spent a round: (state, seconds since the round opened)."""

    device: str
    steps: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """A round's participants; `left_out` of them are not shown."""

    round: int
    seconds: float
    why: str
    courses: Sequence[Course]
    left_out: int


@dataclass(frozen=True, slots=True)
class Tally:
    """Something that happened so many times, to so many devices; `example` is the newest."""

    what: str
    times: int
    devices: int
    example: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that happened once."""

    at_unix_s: float
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Troubles:
    """What did not go as it should."""

    decisions: Sequence[Tally] = ()
    declines: Sequence[Tally] = ()
    refusals: Sequence[Tally] = ()
    incidents: Sequence[Noted] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All of a run; `names` are the metrics that are looked at, the decisive one first."""

    run: RunFacts
    read_unix_s: float
    rounds: Sequence[RoundFacts]
    names: Sequence[str]
    devices: Sequence[DeviceFacts]
    spreads: Sequence[RoundSpread]
    fits: Sequence[Fit]
    phases: Mapping[str, float]
    phases_by_round: Mapping[int, Mapping[str, float]]
    timelines: Sequence[Timeline]
    troubles: Troubles = field(default_factory=Troubles)
    commands: Sequence[Noted] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)

    @property
    def closed(self) -> list[RoundFacts]:
        """Rounds that are over."""
        return [one for one in self.rounds if one.outcome is not None]

    @property
    def seconds(self) -> float:
        """From the start to the end, or to the moment of reading."""
        return (self.run.ended_unix_s or self.read_unix_s) - self.run.started_unix_s
