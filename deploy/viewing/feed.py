"""A view that is kept up to date from a broker, by an account that only reads."""

import secrets
import time
from types import TracebackType
from typing import Self

from broker.advice import advised
from broker.events import (
    Connected,
    Disconnected,
    Received,
    Refused,
    SessionEvent,
    Subscribed,
    Unreachable,
)
from broker.session import Session
from broker.settings import BrokerSettings
from deploy.local.notice import runs
from deploy.viewing.view import WATCHED, View
from host.inbox import Inbox

# More than ten thousand devices have on a broker at once; what does not fit comes with its renewal.
QUEUED = 20_000
DRAINED_AT_ONCE = 2_000
# Somebody sits before it and waits.
RECONNECT_MAX_S = 5.0
# So often in a row, a connection that ended at once is no mishap.
RIVALRY = 3
SHORT_S = 10.0
RIVAL = (
    "the broker ends each connection after a moment: does another program use this account? "
    "Where names are client ids, each that watches needs an account of its own"
)


class Feed:
    """Connects, and connects again; `look` is for one owner, who calls it some times a second."""

    def __init__(self, settings: BrokerSettings, *, demo: bool = False) -> None:
        topics = settings.topics
        self.settings = settings
        self.demo = demo
        """Whether it is a fleet that runs on this machine for a while."""
        self.view = View(topics)
        self.connected = False
        self.connected_ever = False
        self.connected_at = 0.0
        """Since when, as time.monotonic() counts."""
        self.trouble = ""
        """Why there is no connection, or why it says nothing; empty while all is well, or not yet known."""
        self.refused = False
        """Whether the trouble is this account, which time will not mend."""
        self._short = 0
        self._events: Inbox[SessionEvent] = Inbox(QUEUED)
        patience_s = {
            "reconnect_max_s": min(settings.reconnect_max_s, RECONNECT_MAX_S),
            "reconnect_min_s": min(settings.reconnect_min_s, RECONNECT_MAX_S),
        }
        self._session = Session(
            settings.model_copy(update=patience_s),
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

    @property
    def over(self) -> bool:
        """Whether the demo that it watched is gone, and will not come back."""
        return self.demo and bool(self.trouble) and not self.connected and not runs(self.settings.url)

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
                self.connected, self.connected_ever, self.trouble, self.refused = True, True, "", False
                self.connected_at = time.monotonic()
                self.view.forget_documents()
            case Subscribed(ok=ok):
                self.trouble = "" if ok else "this account may not read monitor/#"
            case Disconnected(reason=reason):
                self._note_end()
                # What helps to connect is no advice to one that was connected.
                known = reason if self.connected else advised(reason)
                self.connected, self.trouble = False, RIVAL if self._short >= RIVALRY else known
            case Unreachable(reason=reason):
                self.connected, self.trouble = False, advised(reason)
            case Refused(reason=reason):
                self.connected, self.refused = False, True
                self.trouble = f"the broker refuses this account: {advised(reason)}"
            case _:
                return False
        return True

    def _note_end(self) -> None:
        """Count connections that ended at once, in a row."""
        held_s = time.monotonic() - self.connected_at
        self._short = self._short + 1 if held_s < SHORT_S else 0
