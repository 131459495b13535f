"""What the aggregator says on the broker: every message it publishes, in one place."""

import logging
import math
import time

from broker.messages import Announcement, Assignment, Federation, Grant, Invite, Receipt
from broker.monitor import AggregatorDocument
from broker.session import Session, Will
from broker.signing import Signer
from broker.topics import (
    CONTROL_REPLY,
    FEDERATION,
    INBOX,
    MONITOR_AGGREGATOR,
    PRESENCE,
    ROUND,
    Branch,
    Topics,
)
from broker.wire import encode

# Monitor documents must not fill the queue that announcements and receipts go through.
# Two seconds' worth.
DOCUMENTS_IN_FLIGHT = 64
DOCUMENTS = "monitor/#"
MIN_BEAT_S, MAX_BEAT_S = 1.0, 30.0

log = logging.getLogger(__name__)


class Post:
    """Publishes under one session number; what cannot be sent now is asked for again by its reader."""

    def __init__(
        self,
        session: Session,
        topics: Topics,
        number: int,
        version: str,
        heartbeat_s: float,
        signer: Signer,
        sealing_key: str | None = None,
    ) -> None:
        self._session = session
        self._topics = topics
        self._number = number
        self._version = version
        self._heartbeat_s = heartbeat_s
        self._signer = signer
        self._sealing_key = sealing_key
        self.beat_s = min(max(heartbeat_s, MIN_BEAT_S), MAX_BEAT_S)
        """How often `beat` is to be called, in seconds."""
        self._started_unix_s = time.time()
        self._sequence = 0
        self._unsent: tuple[Announcement, float | None] | None = None
        self._tickets: dict[int, str] = {}
        self._documents: set[int] = set()
        self._denied: set[str] = set()

    def introduce(self) -> None:
        """Say who aggregates, and that it lives; what was to be announced before is announced anew."""
        self._unsent = None
        federation = Federation(
            session=self._number,
            version=self._version,
            heartbeat_s=self._heartbeat_s,
            aggregator_key=self._signer.public_key,
        )
        self._send(FEDERATION, encode(federation), retain=True)
        self.beat()

    def beat(self) -> None:
        """Say that we live: who would serve in our place listens for this first."""
        document = AggregatorDocument(
            online=True,
            session=self._number,
            version=self._version,
            started_unix_s=self._started_unix_s,
            at_unix_s=time.time(),
            renewed_every_s=self.beat_s,
        )
        self._send(MONITOR_AGGREGATOR, document.payload(), retain=True)

    def announce(self, assignment: Assignment | None, expiry_s: float | None) -> None:
        """Publish what devices should do now, as soon as the session takes it."""
        self._sequence += 1
        message = Announcement(
            session=self._number,
            sequence=self._sequence,
            assignment=assignment,
            sealing_key=self._sealing_key,
        )
        self._unsent = message, None if expiry_s is None else time.monotonic() + expiry_s
        self.pump()

    def pump(self) -> None:
        """Send the announcement that did not go out yet: unlike other messages, nobody asks for it again."""
        if self._unsent is None:
            return
        message, until = self._unsent
        whole_s = None if until is None else max(1, math.ceil(until - time.monotonic()))
        payload = self._signer.seal(self._topics.topic(ROUND), message)
        if self._send(ROUND, payload, retain=True, expiry_s=whole_s):
            self._unsent = None

    def to_device(self, device: str, message: Invite | Grant | Receipt) -> None:
        """Put a message into a device's inbox."""
        self._send(INBOX, encode(message), device=device)

    def clear_presence(self, device: str) -> None:
        """Take what a device said of itself off the broker."""
        self._send(PRESENCE, b"", retain=True, device=device)

    def ask_presence(self, device: str) -> None:
        """Hear once more what the broker retains of a device, beside what is subscribed anyway."""
        topic = self._topics.topic(PRESENCE, device=device)
        self._session.subscribe([(topic, PRESENCE.qos)])
        self._session.unsubscribe([topic])

    def to_operator(self, user: str, reply: bytes) -> None:
        """Answer an operator."""
        self._send(CONTROL_REPLY, reply, user=user)

    def document(self, topic: str, payload: bytes, *, retain: bool = True, branch: str = DOCUMENTS) -> bool:
        """Show a document or event, one of `branch`; False when it could not be sent now."""
        if len(self._documents) >= DOCUMENTS_IN_FLIGHT:
            return False
        ticket = self._session.publish(topic, payload, retain=retain)
        if ticket is None:
            return False
        self._tickets[ticket] = branch
        self._documents.add(ticket)
        return True

    def acknowledged(self, ticket: int, *, ok: bool, reason: str) -> None:
        """Complain once a branch about what the broker does not let us say."""
        self._documents.discard(ticket)
        pattern = self._tickets.pop(ticket, None)
        if pattern is not None and not ok and pattern not in self._denied:
            self._denied.add(pattern)
            log.error(
                "the broker refused %s: %s; the aggregator's account needs the right to write it",
                pattern,
                reason,
            )

    def disconnected(self) -> None:
        """Open tickets are not answered any more."""
        self._tickets.clear()
        self._documents.clear()

    def _send(
        self,
        branch: Branch,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
        **fields: str,
    ) -> bool:
        topic = self._topics.topic(branch, **fields)
        ticket = self._session.publish(topic, payload, qos=branch.qos, retain=retain, expiry_s=expiry_s)
        if ticket is not None:
            self._tickets[ticket] = branch.pattern
        return ticket is not None


def farewell(topics: Topics, number: int, version: str) -> Will:
    """What the broker says when the aggregator no longer can."""
    document = AggregatorDocument(online=False, session=number, version=version)
    return Will(topics.topic(MONITOR_AGGREGATOR), document.payload(), retain=True)
