"""A device moved by hand: it says what a test has it say, true or not."""

import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TypeVar

from broker import topics as tree
from broker.envelope import DeviceKey
from broker.events import Acknowledged, Connected, Received, SessionEvent
from broker.messages import (
    AgentState,
    Assignment,
    BlobRef,
    Grant,
    Heartbeat,
    Message,
    Offer,
    Presence,
    Receipt,
    Report,
)
from broker.messages import Inbox as InboxMessage
from broker.session import Session
from broker.settings import BrokerSettings
from broker.signing import unseal
from broker.topics import Branch
from broker.wire import decode, encode
from host.inbox import Inbox

PATIENCE_S = 60.0
OFFER_S = 5.0
OFFERS = 200
BEAT_S = 0.2
Kind = TypeVar("Kind", bound=SessionEvent)


class Hand:
    """Is born, beats, and obeys; nothing happens by itself but heartbeats."""

    def __init__(self, settings: BrokerSettings, device: str, *, examples: int = 100) -> None:
        self.device = device
        self._topics = settings.topics
        self._inbox: Inbox[SessionEvent] = Inbox(10_000)
        heard = [self._topics.topic(tree.ROUND), self._topics.topic(tree.INBOX, device=device)]
        self._session = Session(
            settings,
            f"hand-{device}",
            self._inbox.put,
            will=None,
            subscriptions=[(topic, 1) for topic in heard],
        )
        self._session.start()
        self.connection = self._next(Connected).connection
        self._seal: tuple[DeviceKey, str] | None = None
        self._birth = Presence(
            online=True,
            connection=self.connection,
            runtimes=("keras", "litert", "softmax"),
            examples=examples,
        )
        self.say(tree.PRESENCE, self._birth)
        self._resting = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Die properly, once."""
        if self._resting.is_set():
            return
        self._resting.set()
        self._heart.join()
        self.say(tree.PRESENCE, Presence(online=False, connection=self.connection))
        self._session.stop()

    def say(self, branch: Branch, message: Message | bytes, **fields: str | int) -> Acknowledged:
        """Publish on one of our topics, and wait for the broker's answer."""
        payload = message if isinstance(message, bytes) else self._payload(branch, message)
        return self.say_on(
            self._topics.topic(branch, device=self.device, **fields), payload, retain=branch.retained
        )

    def seal_to(self, key: DeviceKey, sealing_key: str) -> None:
        """Enclose what is said from now on, and say the birth again."""
        self._seal = key, sealing_key
        self.say(tree.PRESENCE, self._birth)

    def _payload(self, branch: Branch, message: Message) -> bytes:
        if self._seal is None or branch not in {tree.OFFER, tree.REPORT, tree.PRESENCE}:
            return encode(message)
        key, sealing_key = self._seal
        sealed = key.enclose(self._topics.topic(branch, device=self.device), message, sealing_key)
        if isinstance(message, Presence):
            return encode(Presence(online=message.online, connection=message.connection, sealed=sealed))
        return sealed

    def say_on(self, topic: str, payload: bytes, *, retain: bool = False) -> Acknowledged:
        """Publish on any topic, and wait for the broker's answer."""
        ticket = self._session.publish(topic, payload, retain=retain)
        while True:
            answer = self._next(Acknowledged)
            if answer.ticket == ticket:
                return answer

    def assignment(self) -> Assignment:
        """Wait for an announced round, whatever its phase."""
        while True:
            heard = self._next(Received, self._topics.topic(tree.ROUND))
            announcement = unseal(heard.topic, heard.payload, None)
            if announcement.assignment is not None:
                return announcement.assignment

    def offer(self, offer: Offer) -> None:
        """Offer an update."""
        self.say(tree.OFFER, offer)

    def report(self, report: Report) -> None:
        """Report metrics or decline."""
        self.say(tree.REPORT, report)

    def granted(self) -> Grant:
        """Wait for a grant, and give it."""
        inbox = self._topics.topic(tree.INBOX, device=self.device)
        message: Message = decode(InboxMessage, self._next(Received, inbox).payload)  # type: ignore[arg-type]
        assert isinstance(message, Grant), message
        return message

    def upload(self, offer: Offer, content: bytes) -> Receipt:
        """Offer, send what is granted until a receipt comes, and give it; offer again while nothing comes."""
        inbox = self._topics.topic(tree.INBOX, device=self.device)
        self.offer(offer)
        for _ in range(OFFERS):
            heard = self._awaited(Received, inbox, OFFER_S)
            if heard is None:
                self.offer(offer)
                continue
            message: Message = decode(InboxMessage, heard.payload)  # type: ignore[arg-type]
            if isinstance(message, Receipt) and message.transfer == offer.update.transfer:
                return message
            if isinstance(message, Grant) and message.transfer == offer.update.transfer:
                self.send_chunks(offer.update, content, message.indexes)
        raise AssertionError(f"no receipt for {offer}")

    def send_chunks(self, ref: BlobRef, content: bytes, indexes: Iterable[int]) -> None:
        """Send these chunks, granted or not."""
        for index in indexes:
            chunk = content[index * ref.chunk_bytes : (index + 1) * ref.chunk_bytes]
            self.say(tree.UPDATE_CHUNK, chunk, transfer=ref.transfer, index=index)

    def _beat(self) -> None:
        beat = Heartbeat(connection=self.connection, state=AgentState.IDLE)
        topic = self._topics.topic(tree.HEARTBEAT, device=self.device)
        while not self._resting.wait(BEAT_S):
            self._session.publish(topic, encode(beat), qos=0)

    def _next(self, kind: type[Kind], topic: str | None = None) -> Kind:
        heard = self._awaited(kind, topic, PATIENCE_S)
        assert heard is not None, f"no {kind.__name__} came on {topic}"
        return heard

    def _awaited(self, kind: type[Kind], topic: str | None, within_s: float) -> Kind | None:
        waiting: list[SessionEvent] = []
        until = time.monotonic() + within_s
        try:
            while (event := self._inbox.get(max(0.0, until - time.monotonic()))) is not None:
                if isinstance(event, kind) and (topic is None or getattr(event, "topic", None) == topic):
                    return event
                waiting.append(event)
        finally:
            for event in waiting:
                self._inbox.put(event)
        return None
