"""One account on a broker, used to try what it may do: publishes, and waits for what comes of it."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from broker.advice import advised
from broker.events import (
    Acknowledged,
    BrokerLimits,
    Connected,
    Disconnected,
    Received,
    Refused,
    SessionEvent,
    Subscribed,
    TakenOver,
    Unreachable,
)
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import Role
from host.errors import MidgeError
from host.inbox import Inbox

QUEUED = 20_000
ANSWER_S = 10.0
AT_ONCE = 100


class NoConnectionError(MidgeError):
    """The account cannot be used on this broker, or its connection does not hold."""


class RefusedError(NoConnectionError):
    """The broker knows no such account, or not with these credentials."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a broker said to a message: taken or denied, and why."""

    taken: bool
    reason: str = ""


class Account:
    """A connection of one role, under its own `name`: a device's id, an operator's user name.

    `filters` are subscribed on every connect. Used as a context; raises NoConnectionError when the broker
    does not take it.
    """

    def __init__(self, role: Role, name: str, settings: BrokerSettings, filters: Sequence[str]) -> None:
        self.role = role
        self.name = name
        self.settings = settings
        self.limits = BrokerLimits()
        self.received: list[Received] = []
        self._events: Inbox[SessionEvent] = Inbox(QUEUED)
        self._session = Session(
            settings.model_copy(update={"reconnect_min_s": 0.1, "reconnect_max_s": 0.5}),
            f"{name}-tries",
            lambda event: self._events.put(event, droppable=True) and None,
            will=None,
            subscriptions=[(topic, 1) for topic in filters],
        )

    def __enter__(self) -> Self:
        self._session.start()
        try:
            self._await_connection()
        except NoConnectionError:
            self._session.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.stop()

    def publish(
        self, topic: str, payload: bytes = b"", *, retain: bool = False, expiry_s: int | None = None
    ) -> Answer:
        """Publish with QoS 1, and say what the broker answered; some end the connection instead."""
        ticket = self._session.publish(topic, payload, retain=retain, expiry_s=expiry_s)
        if ticket is None:
            return Answer(taken=False, reason="the connection does not hold")
        deadline = time.monotonic() + ANSWER_S
        while (event := self._next(deadline)) is not None:
            if isinstance(event, Acknowledged) and event.ticket == ticket:
                return Answer(event.ok, event.reason)
            if isinstance(event, Disconnected):
                self._await_connection()
                return Answer(taken=False, reason=event.reason)
        return Answer(taken=False, reason=f"no answer within {ANSWER_S:g} s")

    def clear(self, topics: Collection[str]) -> set[str]:
        """Have the broker retain nothing on these topics; those where it does not let us."""
        denied: set[str] = set()
        waiting = list(topics)
        while waiting:
            batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
            denied |= self._clear(batch)
        return denied

    def _clear(self, topics: Collection[str]) -> set[str]:
        open_tickets = {self._session.publish(topic, b"", retain=True): topic for topic in topics}
        denied = {topic for ticket, topic in open_tickets.items() if ticket is None}
        deadline = time.monotonic() + ANSWER_S
        while any(open_tickets) and (event := self._next(deadline)) is not None:
            if isinstance(event, Acknowledged) and (topic := open_tickets.pop(event.ticket, None)):
                denied |= set() if event.ok else {topic}
            elif isinstance(event, Disconnected):
                self._await_connection()
                break
        return denied | set(open_tickets.values())

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics too, for as long as this connection holds."""
        self._session.subscribe([(topic, 1) for topic in topics])

    def listen(self, for_s: float, until: Callable[[], bool] = lambda: False) -> None:
        """Take in what comes, for so long or until that is true."""
        deadline = time.monotonic() + for_s
        while not until() and self._next(deadline) is not None:
            pass

    def _next(self, deadline: float) -> SessionEvent | None:
        event = self._events.get(max(0.0, deadline - time.monotonic()))
        if isinstance(event, Received):
            self.received.append(event)
        return event

    def _await_connection(self) -> None:
        """Until the subscriptions are answered."""
        deadline = time.monotonic() + self.settings.connect_timeout_s + ANSWER_S
        while (event := self._next(deadline)) is not None:
            match event:
                case Connected():
                    self.limits = event.limits
                case Subscribed():
                    return
                case Refused(reason=reason):
                    raise RefusedError(f"{self.settings.url} refuses us: {advised(reason)}")
                case Unreachable(reason=reason) | TakenOver(reason=reason):
                    raise NoConnectionError(f"{self.settings.url} cannot be reached: {advised(reason)}")
                case _:
                    pass
        raise NoConnectionError(f"{self.settings.url} does not answer")
