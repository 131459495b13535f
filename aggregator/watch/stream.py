"""The stream of events: numbered, and no faster than people and tools can follow."""

from collections import deque
from collections.abc import Callable, Iterable

from aggregator.watch.bucket import Bucket
from broker.happenings import MAX_RECENT, EventDocument, EventKind, Happening, RecentDocument, Severity

EVENTS_PER_S, EVENTS_AT_ONCE = 10.0, 50.0
# While the broker is not there.
MAX_WAITING = MAX_RECENT


class Stream:
    """Events of one session of the aggregator; those beyond the rate are only counted."""

    def __init__(self, session: int, before: Iterable[Happening] = ()) -> None:
        """`before` happened in earlier sessions, oldest first: it is not told, only shown."""
        self._session = session
        self._number = 0
        self._skipped = 0
        self._bucket = Bucket(EVENTS_PER_S, EVENTS_AT_ONCE)
        self._waiting: deque[EventDocument] = deque()
        self._recent: deque[Happening] = deque(before, maxlen=MAX_RECENT)

    def refill(self, now: float, unix_s: float) -> None:
        """Time has passed: tell how many events were skipped, as soon as there is room for that."""
        self._bucket.refill(now)
        if self._skipped and self._has_room():
            count, self._skipped = self._skipped, 0
            skipped = Happening(
                number=0,
                at_unix_s=unix_s,
                kind=EventKind.SKIPPED,
                severity=Severity.WARNING,
                text=f"{count} events came too fast to be told one by one",
            )
            self.add(skipped)

    def add(self, happening: Happening) -> None:
        """Have an event told; its number is given here."""
        if not self._has_room():
            self._skipped += 1
            return
        self._bucket.take(1)
        self._number += 1
        numbered = happening.model_copy(update={"number": self._number})
        self._recent.append(numbered)
        self._waiting.append(EventDocument(session=self._session, **dict(numbered)))

    def pour(self, tell: Callable[[EventDocument], bool], at_most: int) -> None:
        """Tell up to `at_most` events that wait, oldest first, until one of them has to wait."""
        for _ in range(min(at_most, len(self._waiting))):
            if not tell(self._waiting[0]):
                return
            self._waiting.popleft()

    @property
    def begun(self) -> bool:
        """Whether there was any event yet."""
        return bool(self._recent)

    @property
    def recent(self) -> RecentDocument:
        """The newest events."""
        return RecentDocument(session=self._session, events=tuple(self._recent))

    def _has_room(self) -> bool:
        return self._bucket.holds(1) and len(self._waiting) < MAX_WAITING
