"""What stands on the broker below `monitor/`, and how much is said of it a second, whatever the fleet does.

All that is said takes from one bucket of messages, and from one of bytes: large documents have their own, so
that no other waits for them. Within any T seconds that is at most 16 + 32 T messages and 32 kB + 64 kB T, and
one document larger than half of its bucket; the aggregator's beat comes on top, at most one a second.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from math import inf
from typing import Protocol, TypeAlias
from zlib import crc32

from aggregator.watch.bucket import Bucket
from aggregator.watch.guard import Guard
from broker.happenings import EventDocument
from broker.monitor import Document

MESSAGES_PER_S, MESSAGES_AT_ONCE = 32.0, 16.0
# Of each of the two buckets.
BYTES_PER_S, BYTES_AT_ONCE = 32_000.0, 16_000.0
LARGE_BYTES = 8_000
# Of one document: the few that can be large have their room together.
DOCUMENT_BYTES_PER_S = 8_000.0
# A document is renewed after this part of what it says, or up to all of it: not all of them at once.
RENEWED_FROM = 0.75
# However many there are, what is said has its share of the messages, too.
SWEPT_AT_ONCE = 8

Observer: TypeAlias = Callable[[str, Document | EventDocument], None]


class Publish(Protocol):
    """Sends a message; False when it could not be sent now."""

    def __call__(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        """Of an empty payload the broker forgets what it retained."""


@dataclass(frozen=True, slots=True)
class _Said:
    document: Document
    again_at: float
    renew_at: float


class Board:
    """Says what is not what it said last; `rate_s` is the least time between two versions of a document."""

    def __init__(self, publish: Publish, rate_s: float) -> None:
        self._publish = publish
        self._rate_s = rate_s
        self._said: dict[str, _Said] = {}
        self._to_clear: dict[str, None] = {}
        self._messages = Bucket(MESSAGES_PER_S, MESSAGES_AT_ONCE)
        self._bytes = Bucket(BYTES_PER_S, BYTES_AT_ONCE)
        self._large_bytes = Bucket(BYTES_PER_S, BYTES_AT_ONCE)
        self._guard = Guard()
        self.observers: list[Observer] = []
        """See every document and event once it was published, as it was."""

    def __len__(self) -> int:
        """How many documents it answers for."""
        return len(self._said)

    def refill(self, now: float) -> None:
        """Time has passed."""
        self._messages.refill(now)
        self._bytes.refill(now)
        self._large_bytes.refill(now)

    def forget(self) -> None:
        """The broker may have lost what was said: it is to be said again, no faster than anything."""
        self._said = {
            topic: replace(said, again_at=-inf, renew_at=-inf) for topic, said in self._said.items()
        }

    def release(self, topic: str) -> None:
        """What was said for good stays; what is to be renewed, and will not be any more, goes."""
        said = self._said.get(topic)
        if said is not None and said.renew_at < inf:
            self.clear(topic)
        self._said.pop(topic, None)

    def clear(self, topic: str) -> None:
        """What stands there is to go."""
        self._said.pop(topic, None)
        self._to_clear[topic] = None

    def sweep(self) -> None:
        """Take off what is to go, as far as there is room."""
        for topic in list(islice(self._to_clear, SWEPT_AT_ONCE)):
            if not self._send(topic, b"", retain=True):
                return
            del self._to_clear[topic]

    def tell(self, topic: str, event: EventDocument) -> bool:
        """Publish an event; False when it has to wait."""
        sent = self._send(topic, event.model_dump_json().encode(), retain=False)
        if sent:
            self._show_observers(topic, event)
        return sent

    def ready(self, topic: str, now: float) -> bool:
        """Whether another version of a document may be said by now."""
        said = self._said.get(topic)
        return said is None or now >= said.again_at

    def show(
        self, topic: str, document: Document, now: float, *, pause_s: float = 0.0, **timed: float | None
    ) -> bool:
        """Publish a document unless it stands there; another version is said after `pause_s` at the soonest.

        `timed` are fields that time alone changes. False when it has to wait.
        """
        said = self._said.get(topic)
        if said is not None and now < said.renew_at and (now < said.again_at or said.document == document):
            return True
        whole = document.model_copy(update=timed)
        payload = whole.payload()
        if not self._send(topic, payload, retain=True):
            return False
        self._to_clear.pop(topic, None)
        again_s = max(self._rate_s, pause_s, len(payload) / DOCUMENT_BYTES_PER_S)
        self._said[topic] = _Said(document, now + again_s, now + _renewal_s(topic, document, again_s))
        self._show_observers(topic, whole)
        return True

    def _send(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        size = len(topic) + len(payload)
        bytes_ = self._large_bytes if size > LARGE_BYTES else self._bytes
        if not self._messages.holds(1) or not bytes_.holds(size):
            return False
        if not self._publish(topic, payload, retain=retain):
            return False
        self._messages.take(1)
        bytes_.take(size)
        return True

    def _show_observers(self, topic: str, document: Document | EventDocument) -> None:
        for observer in self.observers:
            self._guard.run(f"an observer of {type(document).__name__}", partial(observer, topic, document))


def _renewal_s(topic: str, document: Document, again_s: float) -> float:
    """When to say the same again: at another part of the time for each topic."""
    if document.renewed_every_s <= 0:
        return inf
    part = RENEWED_FROM + (1 - RENEWED_FROM) * crc32(topic.encode()) / (1 << 32)
    return max(document.renewed_every_s * part, again_s)
