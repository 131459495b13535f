"""A view that is kept up to date from a broker, by an account that only reads."""

import secrets
import time
from types import TracebackType
from typing import Self

from broker.advice import advised
from broker.events import Connected, Disconnected, Received, Refused, SessionEvent, Subscribed, Unreachable
from broker.session import Session
from broker.settings import BrokerSettings
from deploy.viewing.view import WATCHED, View
from host.inbox import Inbox

# More than ten thousand devices have on a broker at once; what does not fit comes with its renewal.
QUEUED = 20_000
DRAINED_AT_ONCE = 2_000


class Feed:
    """Connects, and connects again; `look` is for one owner, who calls it some times a second."""

    def __init__(self, settings: BrokerSettings) -> None:
        topics = settings.topics
        self.settings = settings
        self.view = View(topics)
        self.connected = False
        self.trouble = "connecting"
        """Why there is no connection, or why it says nothing; empty while all is well."""
        self.refused = False
        """Whether the trouble is this account, which time will not mend."""
        self._events: Inbox[SessionEvent] = Inbox(QUEUED)
        self._session = Session(
            settings,
            f"viewer-{secrets.token_hex(4)}",
            lambda event: self._events.put(event, droppable=True),
            will=None,
            subscriptions=[(topics.filter(branch), 1) for branch in WATCHED],
        )

    def __enter__(self) -> Self:
        self._session.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.stop()

    @property
    def missed(self) -> int:
        """Messages that came faster than they were looked at."""
        return self._events.dropped

    def look(self, wait_s: float = 0.0) -> bool:
        """Take over what arrived, at most so much that its owner stays lively; whether anything changed."""
        changed = False
        event = self._events.get(wait_s)
        for _ in range(DRAINED_AT_ONCE):
            if event is None:
                break
            changed |= self._take(event)
            event = self._events.get(0.0)
        return changed

    def _take(self, event: SessionEvent) -> bool:
        match event:
            case Received(topic=topic, payload=payload, retained=retained):
                return self.view.take(topic, payload, time.monotonic(), time.time() if retained else None)
            case Connected():
                self.connected, self.trouble, self.refused = True, "", False
                self.view.forget_documents()
            case Subscribed(ok=ok):
                self.trouble = "" if ok else "this account may not read monitor/#"
            case Disconnected(reason=reason) | Unreachable(reason=reason):
                self.connected, self.trouble = False, advised(reason)
            case Refused(reason=reason):
                self.connected, self.refused = False, True
                self.trouble = f"the broker refuses this account: {advised(reason)}"
            case _:
                return False
        return True
