"""One bounded queue between the threads that notice things and the one loop that acts on them."""

import queue
from typing import Generic, TypeVar

Event = TypeVar("Event")


class Inbox(Generic[Event]):
    """Events in order of arrival; those that a peer can send without end are bounded."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        # Of all queues, this one may be put to by a signal handler in the middle of its own `get`.
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.dropped = 0

    def put(self, event: Event, *, droppable: bool = False) -> bool:
        """Add an event; a droppable one is dropped and counted (False) while the queue is full."""
        if droppable and self._events.qsize() >= self._limit:
            self.dropped += 1
            return False
        self._events.put(event)
        return True

    def get(self, timeout_s: float | None) -> Event | None:
        """The oldest event, or None when none came in time."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
