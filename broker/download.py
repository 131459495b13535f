"""Which chunk topics of a blob to subscribe to next: a window at a time, moved by half a window.

A wildcard over all chunks would overflow the queue that the broker keeps for us, which it does silently. The
window, times the chunk size, should stay near what the link carries in a second.
"""

from dataclasses import dataclass

from broker.messages import BlobRef

DEFAULT_WINDOW = 16


@dataclass(frozen=True, slots=True)
class Step:
    """Chunk indexes to subscribe to, and those whose subscription has done its work."""

    subscribe: tuple[int, ...] = ()
    unsubscribe: tuple[int, ...] = ()


class Download:
    """Follows one blob: `bitmap` has a byte a chunk, 1 for those that are here already."""

    def __init__(self, ref: BlobRef, bitmap: bytes, window: int = DEFAULT_WINDOW) -> None:
        if len(bitmap) != ref.chunks:
            raise ValueError(f"a bitmap of {len(bitmap)} chunks for a blob of {ref.chunks}")
        if window < 1:
            raise ValueError("a window holds at least one chunk")
        self._present = bytearray(bitmap)
        self._window = window
        self._begin()

    @property
    def complete(self) -> bool:
        """Whether every chunk has been received."""
        return 0 not in self._present

    @property
    def subscribed(self) -> tuple[int, ...]:
        """What is subscribed to now: to be unsubscribed when the download is given up."""
        return (*sorted(self._outstanding), *self._done)

    def start(self) -> Step:
        """Ask for the first window; also after every connect, since subscriptions end with a connection."""
        self._begin()
        return Step(subscribe=self._advance(self._window))

    def received(self, index: int) -> Step:
        """Note a chunk that is in place; every half window, the next half is asked for."""
        self._present[index] = 1
        if index in self._outstanding:
            self._outstanding.remove(index)
            self._done.append(index)
        if len(self._outstanding) > self._window // 2:
            return Step()
        subscribe = self._advance(self._window - len(self._outstanding))
        return self._release(subscribe) if subscribe or not self._outstanding else Step()

    def stalled(self) -> Step:
        """Ask again for what did not come: the broker sends a retained message at every SUBSCRIBE."""
        return self._release(tuple(sorted(self._outstanding)))

    def _begin(self) -> None:
        self._next = 0
        self._outstanding: set[int] = set()
        self._done: list[int] = []

    def _advance(self, count: int) -> tuple[int, ...]:
        indexes: list[int] = []
        while len(indexes) < count and (index := self._present.find(0, self._next)) >= 0:
            indexes.append(index)
            self._next = index + 1
        self._outstanding.update(indexes)
        return tuple(indexes)

    def _release(self, subscribe: tuple[int, ...]) -> Step:
        done, self._done = tuple(self._done), []
        return Step(subscribe, done)
