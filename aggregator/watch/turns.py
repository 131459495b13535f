"""Whose turn it is: of many, who waited longest comes first."""

from collections import deque
from collections.abc import Callable, Collection


class Turns:
    """A queue in which whoever had a turn goes to the end."""

    def __init__(self) -> None:
        self._queue: deque[str] = deque()
        self._known: set[str] = set()

    def take(self, names: Collection[str], serve: Callable[[str], bool], at_most: int) -> None:
        """Serve up to `at_most` of those who are there now, until `serve` says that one has to wait."""
        new = [name for name in names if name not in self._known]
        self._queue.extend(new)
        self._known.update(new)
        for _ in range(min(at_most, len(self._queue))):
            name = self._queue[0]
            if name not in names:
                self._queue.popleft()
                self._known.discard(name)
            elif serve(name):
                self._queue.rotate(-1)
            else:
                return
