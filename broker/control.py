"""What operators and the aggregator say to each other: commands, and what became of them."""

from pydantic import Field

from broker.messages import Message, Part, Word
from broker.names import DeviceId, Finite, MetricName, RequestId, RunId, ShortText


class Verb(Word):
    """What an operator can ask of the aggregator."""

    START = "start"
    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    RUNS = "runs"
    EXCLUDE = "exclude"
    ADMIT = "admit"


SettingValue = bool | int | float | str


class Request(Message):
    """An operator's command; asked again under the same id it is done only once."""

    id: RequestId
    verb: Verb
    task: ShortText | None = None
    settings: dict[MetricName, SettingValue] = Field(default_factory=dict, max_length=64)
    device: DeviceId | None = Field(default=None, description="of `exclude` and `admit`")
    reason: ShortText = Field(default="", description="why it is excluded, for people")


class RunSummary(Part):
    """A line of `midge runs`."""

    run: RunId
    task: ShortText
    state: ShortText
    reason: ShortText = ""
    rounds: int = Field(ge=0)
    rounds_done: int = Field(ge=0)
    started_unix_s: float
    metrics: dict[MetricName, Finite] = Field(default_factory=dict, max_length=64)


class Reply(Message):
    """What became of a request."""

    id: RequestId
    ok: bool
    text: ShortText
    run: RunId | None = None
    runs: tuple[RunSummary, ...] = Field(default=(), max_length=100)
