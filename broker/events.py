"""What a session with the broker reports to its owner."""

from dataclasses import dataclass
from typing import NamedTuple


class BrokerLimits(NamedTuple):
    """What a broker says of itself as it accepts us; what it does not mention, it can."""

    max_qos: int = 2
    retains: bool = True
    wildcards: bool = True
    max_packet_bytes: int | None = None


UNLIMITED = BrokerLimits()


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted us; what is subscribed on every connect has been asked for."""

    connection: str
    limits: BrokerLimits = UNLIMITED


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection that had been accepted ended; its open tickets will not be answered."""

    reason: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker answered what is subscribed on every connect; what it had retained follows."""

    ok: bool


@dataclass(frozen=True, slots=True)
class TakenOver:
    """Another client connected under our client id; the session is over."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker answered, and does not want these credentials; counted without a success in between."""

    reason: str
    in_a_row: int


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The broker did not answer, or cannot serve anybody now."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message; `expiry_s` is what the broker left of the sender's expiry."""

    topic: str
    payload: bytes
    retained: bool
    expiry_s: int | None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker took (QoS 1), or the socket took (QoS 0), a published message, or it was denied."""

    ticket: int
    ok: bool
    reason: str


SessionEvent = (
    Connected | Subscribed | Disconnected | TakenOver | Refused | Unreachable | Received | Acknowledged
)
