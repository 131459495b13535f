"""The topic tree: every topic midge uses, who writes it, who reads it."""

import re
from dataclasses import dataclass
from enum import StrEnum

from broker.names import ID_PATTERN

PROTOCOL = "v1"
FIELD_PATTERNS = {
    "device": ID_PATTERN[1:-1],
    "user": ID_PATTERN[1:-1],
    "run": ID_PATTERN[1:-1],
    "round": r"[1-9][0-9]{0,6}",
    "digest": r"[0-9a-f]{64}",
    "transfer": r"[0-9a-f]{16}",
    "index": r"0|[1-9][0-9]{0,6}",
    # Also the client id while a device enrols. No device's id has an underscore: none can be taken over.
    "token": r"token_[0-9a-f]{32}",
}


class Role(StrEnum):
    """Who holds an account on the broker."""

    AGGREGATOR = "aggregator"
    DEVICE = "device"
    OPERATOR = "operator"
    MONITOR = "monitor"
    REGISTRAR = "registrar"
    ENROLMENT = "enrolment"


class Format(StrEnum):
    """How a payload is written."""

    MSGPACK = "msgpack"
    JSON = "json"
    BYTES = "bytes"


@dataclass(frozen=True)
class Branch:
    """One kind of topic: its pattern under the root, and the rules for its payload."""

    pattern: str
    writer: Role
    readers: tuple[Role, ...]
    message: str
    what: str
    qos: int = 1
    retained: bool = False
    format: Format = Format.MSGPACK
    clearer: Role | None = None
    """Who, besides the writer, takes off the broker what is retained there: the same right."""

    @property
    def writers(self) -> tuple[Role, ...]:
        """Who needs the right to write there."""
        return (self.writer,) if self.clearer is None else (self.writer, self.clearer)

    def wildcard(self, **fields: str) -> str:
        """Fill in the fields given; the others become single-level wildcards."""
        return re.sub(r"{(\w+)}", lambda field: fields.get(field[1], "+"), self.pattern)


AGGREGATOR, DEVICE, OPERATOR, MONITOR = Role.AGGREGATOR, Role.DEVICE, Role.OPERATOR, Role.MONITOR
REGISTRAR, ENROLMENT = Role.REGISTRAR, Role.ENROLMENT
WATCHERS = (MONITOR, OPERATOR)

FEDERATION = Branch(
    "federation",
    AGGREGATOR,
    (AGGREGATOR, DEVICE, OPERATOR),
    "Federation",
    "who aggregates, and the fleet's rhythm",
    retained=True,
)
ROUND = Branch(
    "round",
    AGGREGATOR,
    (DEVICE, OPERATOR),
    "SignedAnnouncement",
    "what devices should do now",
    retained=True,
)
BLOB_CHUNK = Branch(
    "blobs/{digest}/{index}",
    AGGREGATOR,
    (DEVICE,),
    "a chunk of a blob",
    "theta and programs, content-addressed, expiring",
    retained=True,
    format=Format.BYTES,
)
PRESENCE = Branch(
    "devices/{device}/presence",
    DEVICE,
    (AGGREGATOR, DEVICE),
    "Presence",
    "birth, and death by will; emptied by the aggregator when the device is excluded",
    retained=True,
    clearer=AGGREGATOR,
)
HEARTBEAT = Branch(
    "devices/{device}/heartbeat", DEVICE, (AGGREGATOR,), "Heartbeat", "proof of life, and progress", qos=0
)
OFFER = Branch(
    "devices/{device}/offer", DEVICE, (AGGREGATOR,), "Offer", "an update is ready; repeated until answered"
)
REPORT = Branch(
    "devices/{device}/report",
    DEVICE,
    (AGGREGATOR,),
    "Report",
    "evaluation metrics, or a declined round and why",
)
UPDATE_CHUNK = Branch(
    "devices/{device}/chunks/{transfer}/{index}",
    DEVICE,
    (AGGREGATOR,),
    "a chunk of an update",
    "only those that a grant named",
    format=Format.BYTES,
)
INBOX = Branch(
    "devices/{device}/inbox",
    AGGREGATOR,
    (DEVICE,),
    "Invite, Grant or Receipt",
    "answers to one device",
)
RENEW = Branch(
    "devices/{device}/renew",
    DEVICE,
    (REGISTRAR,),
    "RenewalRequest",
    "before the device's certificate expires",
)
RENEWED = Branch(
    "devices/{device}/renewed", REGISTRAR, (DEVICE,), "Issued or Refusal", "the new one, or why there is none"
)
ENROL_REQUEST = Branch(
    "enrol/{token}/request",
    ENROLMENT,
    (REGISTRAR,),
    "EnrolmentRequest",
    "by whoever holds the token of this id",
)
ENROL_REPLY = Branch(
    "enrol/{token}/reply", REGISTRAR, (ENROLMENT,), "Issued or Refusal", "the first one, or why there is none"
)
CERTIFIER = Branch(
    "certifier",
    REGISTRAR,
    (DEVICE,),
    "Certifier",
    "who certifies devices now; emptied by the aggregator on midge purge",
    retained=True,
    clearer=AGGREGATOR,
)
CONTROL_REQUEST = Branch(
    "control/{user}/request", OPERATOR, (AGGREGATOR,), "Request", "an operator's command"
)
CONTROL_REPLY = Branch("control/{user}/reply", AGGREGATOR, (OPERATOR,), "Reply", "what became of it")


def _watched(
    pattern: str,
    message: str,
    what: str,
    readers: tuple[Role, ...] = WATCHERS,
    *,
    retained: bool = True,
) -> Branch:
    return Branch(pattern, AGGREGATOR, readers, message, what, retained=retained, format=Format.JSON)


MONITOR_AGGREGATOR = _watched(
    "monitor/aggregator",
    "AggregatorDocument",
    "whether the aggregator lives: its beat, and its will",
    (AGGREGATOR, *WATCHERS),
)
MONITOR_FEDERATION = _watched(
    "monitor/federation", "FederationDocument", "the fleet in numbers, the active run"
)
MONITOR_INCIDENTS = _watched(
    "monitor/incidents", "IncidentsDocument", "the aggregator's newest mishaps, such as a damaged file"
)
MONITOR_EVENTS = _watched("monitor/events", "EventDocument", "what happens, as it happens", retained=False)
MONITOR_RECENT = _watched("monitor/recent", "RecentDocument", "the newest events, for whoever comes late")
MONITOR_RUN = _watched("monitor/runs/{run}", "RunDocument", "a run: state, rounds, metrics")
MONITOR_ROUND = _watched(
    "monitor/runs/{run}/rounds/{round}", "RoundDocument", "a round: phase, participants, outcome"
)
MONITOR_HISTORY = _watched(
    "monitor/runs/{run}/history", "HistoryDocument", "a run's closed rounds, a line each"
)
MONITOR_CONFUSION = _watched(
    "monitor/runs/{run}/confusion", "ConfusionDocument", "what the newest model took for what"
)
MONITOR_DEVICE = _watched(
    "monitor/devices/{device}", "DeviceDocument", "a device: state, progress, last metrics"
)

TREE: tuple[Branch, ...] = (
    FEDERATION,
    ROUND,
    BLOB_CHUNK,
    PRESENCE,
    HEARTBEAT,
    OFFER,
    REPORT,
    UPDATE_CHUNK,
    INBOX,
    RENEW,
    RENEWED,
    ENROL_REQUEST,
    ENROL_REPLY,
    CERTIFIER,
    CONTROL_REQUEST,
    CONTROL_REPLY,
    MONITOR_AGGREGATOR,
    MONITOR_FEDERATION,
    MONITOR_INCIDENTS,
    MONITOR_EVENTS,
    MONITOR_RECENT,
    MONITOR_RUN,
    MONITOR_ROUND,
    MONITOR_HISTORY,
    MONITOR_CONFUSION,
    MONITOR_DEVICE,
)


def _matcher(branch: Branch) -> re.Pattern[str]:
    return re.compile(
        re.sub(r"{(\w+)}", lambda field: f"(?P<{field[1]}>{FIELD_PATTERNS[field[1]]})", branch.pattern)
    )


_MATCHERS = tuple((branch, _matcher(branch)) for branch in TREE)


@dataclass(frozen=True)
class Address:
    """A topic taken apart: its branch and the fields in its levels."""

    branch: Branch
    fields: dict[str, str]


@dataclass(frozen=True)
class Topics:
    """The tree of one federation, rooted at `<prefix>/v1/<federation>`."""

    federation: str
    prefix: str = "midge"

    @property
    def root(self) -> str:
        """The topic above all others."""
        return f"{self.prefix}/{PROTOCOL}/{self.federation}"

    def topic(self, branch: Branch, **fields: str | int) -> str:
        """The full topic of a branch; every field must be given."""
        return f"{self.root}/{branch.pattern.format(**fields)}"

    def filter(self, branch: Branch, **fields: str) -> str:
        """A subscription filter; fields that are not given match any value."""
        return f"{self.root}/{branch.wildcard(**fields)}"

    def parse(self, topic: str) -> Address | None:
        """Take a topic apart; None when it is not of this tree."""
        below = topic.removeprefix(f"{self.root}/")
        if below == topic:
            return None
        for branch, matcher in _MATCHERS:
            if found := matcher.fullmatch(below):
                return Address(branch, found.groupdict())
        return None
