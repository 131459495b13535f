"""What the doctor found: a line each, with what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it is."""

    OK = "ok"
    WRONG = "WRONG"
    UNKNOWN = "unknown"


class Check(StrEnum):
    """What is looked at."""

    CONNECTION = "connection"
    CLOCK = "clock"
    QOS = "QoS 1"
    RETAINED = "retained messages"
    PACKET = "packet size"
    RIGHTS = "rights"
    QUEUE = "queue"
    EXPIRY = "message expiry"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `who` is a role, or `broker`."""

    who: str
    check: Check
    verdict: Verdict
    text: str
