"""One bounded queue between the threads that notice things and the one loop that acts on them."""

import threading
from collections import deque
from typing import Generic, TypeVar

Event = TypeVar("Event")


class Inbox(Generic[Event]):
    """Events in order of arrival; those that a peer can send without end are bounded."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[Event] = deque()
        self._arrived = threading.Condition()
        self.dropped = 0

    def put(self, event: Event, *, droppable: bool = False) -> bool:
        """Add an event; a droppable one is dropped and counted (False) while the queue is full."""
        with self._arrived:
            if droppable and len(self._events) >= self._limit:
                self.dropped += 1
                return False
            self._events.append(event)
            self._arrived.notify()
            return True

    def get(self, timeout_s: float | None) -> Event | None:
        """The oldest event, or None when none came in time."""
        with self._arrived:
            if not self._events:
                self._arrived.wait(timeout_s)
            return self._events.popleft() if self._events else None
