"""A session with its inbox, for tests that wait for events."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from broker.events import Acknowledged, Connected, Received, SessionEvent
from broker.session import Session, Will
from broker.settings import BrokerSettings
from host.inbox import Inbox

PATIENCE_S = 20.0
Kind = TypeVar("Kind", bound=SessionEvent)


class Peer:
    """A started session; `connection` is set by `online`."""

    def __init__(
        self,
        settings: BrokerSettings,
        name: str,
        *subscriptions: str,
        will: Callable[[str], Will] = lambda connection: Will(f"wills/{connection}", b"", retain=False),
    ) -> None:
        fast = settings.model_copy(update={"reconnect_min_s": 0.02, "reconnect_max_s": 0.1})
        self.inbox: Inbox[SessionEvent] = Inbox(100_000)
        self.session = Session(
            fast, name, self.inbox.put, will=will, subscriptions=[(topic, 1) for topic in subscriptions]
        )
        self._unread: deque[Received] = deque()
        self.session.start()

    def until(self, kind: type[Kind], match: Callable[[Kind], bool] = lambda _: True) -> Kind:
        """The next event of a kind that matches; others are dropped, messages only where one is awaited."""
        deadline = time.monotonic() + PATIENCE_S
        seen: list[SessionEvent] = []
        while (left := deadline - time.monotonic()) > 0:
            read_again = kind is Received and self._unread
            if (event := self._unread.popleft() if read_again else self.inbox.get(left)) is None:
                break
            if isinstance(event, kind) and match(event):
                return event
            seen.append(event)
            if isinstance(event, Received) and kind is not Received:
                self._unread.append(event)
        raise AssertionError(f"no {kind.__name__} came, but {seen[-20:]}")

    def online(self) -> Self:
        """Wait until the broker has accepted us and, since it reads in order, has made our subscriptions."""
        self.connection = self.until(Connected).connection
        self.send("elsewhere", b"")
        return self

    def send(
        self, topic: str, payload: bytes, *, retain: bool = False, expiry_s: int | None = None
    ) -> Acknowledged:
        """Publish with QoS 1 and wait for the answer."""
        ticket = self.session.publish(topic, payload, retain=retain, expiry_s=expiry_s)
        return self.until(Acknowledged, lambda event: event.ticket == ticket)

    def receive_until(self, last: bytes) -> list[Received]:
        """Every message up to the one with payload `last`, which is left out."""
        received: list[Received] = []
        while (event := self.until(Received)).payload != last:
            received.append(event)
        return received

    def __enter__(self) -> Self:
        return self.online()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.stop()


def topics_of(received: Sequence[Received]) -> set[str]:
    return {message.topic for message in received}
