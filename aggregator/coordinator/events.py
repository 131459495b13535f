"""What the coordinator is told."""

from dataclasses import dataclass, field
from typing import TypeAlias

from aggregator.run_settings import RunSettings
from broker.contract import DataContract, Needs
from broker.messages import BlobRef, Heartbeat, Offer, Presence, RejectReason, Report
from broker.names import Metrics


@dataclass(frozen=True, slots=True)
class Restored:
    """The process started with the state of an earlier one."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The aggregator's own connection to the broker stands."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The aggregator's own connection to the broker is gone."""


@dataclass(frozen=True, slots=True)
class DevicePresence:
    """A birth or death; `retained` when the broker had kept it from earlier."""

    device: str
    presence: Presence
    retained: bool = False


@dataclass(frozen=True, slots=True)
class DeviceHeartbeat:
    """A sign of life with progress."""

    device: str
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """Evaluation metrics, or a declined round."""

    device: str
    report: Report


@dataclass(frozen=True, slots=True)
class UpdateOffered:
    """A device has an update to upload."""

    device: str
    offer: Offer


@dataclass(frozen=True, slots=True)
class UpdateReceived:
    """An offered update is verified and lies synced in the spool."""

    device: str
    offer: Offer


@dataclass(frozen=True, slots=True)
class UpdateRejected:
    """An offered update was received, but its content is not acceptable."""

    device: str
    offer: Offer
    reason: RejectReason


@dataclass(frozen=True, slots=True)
class StartRun:
    """An operator starts a run of a task; `request` is the operator's id of it."""

    run: str
    task: str
    settings: RunSettings
    request: str | None = None


@dataclass(frozen=True, slots=True)
class StopRun:
    """An operator ends the active run; its newest model stays."""


@dataclass(frozen=True, slots=True)
class PauseRun:
    """An operator stops the clock: uploads are accepted, no training starts."""


@dataclass(frozen=True, slots=True)
class ResumeRun:
    """An operator lets a paused run go on."""


@dataclass(frozen=True, slots=True)
class ExcludeDevice:
    """An operator wants nothing more of a device; it is not heard from now on."""

    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """The task's model is built: its first theta and its program are on disk."""

    run: str
    theta: BlobRef
    program: BlobRef
    layout: str
    runtime: str
    contract: DataContract
    parameters: int
    needs: Needs = field(default_factory=Needs)


@dataclass(frozen=True, slots=True)
class PrepareFailed:
    """The task could not be built."""

    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class BlobsPublished:
    """Every chunk of these blobs was acknowledged by the broker."""

    blobs: tuple[BlobRef, ...]


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The strategy finished: the round's new theta is on disk."""

    run: str
    round: int
    theta: BlobRef


@dataclass(frozen=True, slots=True)
class AggregationFailed:
    """The strategy raised."""

    run: str
    round: int
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The model file is saved; metrics on held-out data, None when the task has none."""

    run: str
    round: int
    metrics: Metrics | None


@dataclass(frozen=True, slots=True)
class EvaluationFailed:
    """The evaluator failed; the model stays, unevaluated."""

    run: str
    round: int
    reason: str


@dataclass(frozen=True, slots=True)
class DiskFilled:
    """The disk takes no more: effects are held, or uploads turned away, until it does."""

    reason: str


@dataclass(frozen=True, slots=True)
class DiskHasRoom:
    """The disk takes all that was held, and more."""


@dataclass(frozen=True, slots=True)
class UpdateDamaged:
    """An accepted update of a round, in the spool, is not what its device sent any more."""

    round: int
    device: str
    digest: str


@dataclass(frozen=True, slots=True)
class ModelDamaged:
    """The run's theta or program is damaged; `fallback` is the newest theta that is sound, if that helps.

    It lacks the work of `lost_rounds` completed rounds.
    """

    reason: str
    fallback: BlobRef | None
    lost_rounds: int = 0


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; nothing else happened."""


Event: TypeAlias = (
    Restored
    | Connected
    | Disconnected
    | DevicePresence
    | DeviceHeartbeat
    | DeviceReport
    | UpdateOffered
    | UpdateReceived
    | UpdateRejected
    | StartRun
    | StopRun
    | PauseRun
    | ResumeRun
    | ExcludeDevice
    | Prepared
    | PrepareFailed
    | BlobsPublished
    | Aggregated
    | AggregationFailed
    | Evaluated
    | EvaluationFailed
    | DiskFilled
    | DiskHasRoom
    | UpdateDamaged
    | ModelDamaged
    | Tick
)
