"""The one loop of a service: everything that changes its state runs here, one action after the other."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from host.inbox import Inbox

Action: TypeAlias = Callable[[], None]
Result = TypeVar("Result")

# Python runs a signal's handler between two steps of the main thread: one that comes in the instant before
# the thread begins to wait is noticed when the wait ends, so none lasts for ever.
LONGEST_WAIT_S = 2.0

log = logging.getLogger(__name__)


class Loop:
    """Runs posted actions in order, and a timer between them; other threads only post."""

    def __init__(self, limit: int = 10_000) -> None:
        self._inbox: Inbox[Action] = Inbox(limit)
        self._running = True

    @property
    def dropped(self) -> int:
        """Droppable actions that found the queue full."""
        return self._inbox.dropped

    def post(self, action: Action, *, droppable: bool = False) -> bool:
        """Have the loop run `action`; False when it is droppable and the queue is full."""
        return self._inbox.put(action, droppable=droppable)

    def stop(self) -> None:
        """End `run` after what is queued already; may be called from any thread or signal handler."""
        self.post(self._end)

    def run(self, next_deadline: Callable[[], float | None], on_deadline: Action) -> None:
        """Run until stopped or an action raises; `next_deadline` is in seconds of `time.monotonic`."""
        while self._running:
            due, now = next_deadline(), time.monotonic()
            if due is not None and due <= now:
                on_deadline()
            wait_s = LONGEST_WAIT_S if due is None else min(max(0.0, due - now), LONGEST_WAIT_S)
            action = self._inbox.get(wait_s)
            if action is not None:
                action()

    def _end(self) -> None:
        self._running = False


class Jobs:
    """Long work, one after the other in a thread of its own; the outcome comes back to the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jobs")

    def submit(
        self, work: Callable[[], Result], done: Callable[[Result], None], failed: Callable[[Exception], None]
    ) -> None:
        """Run `work`, then `done` with what it returned, or `failed` with what it raised, in the loop."""

        def report(future: Future[Result]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                self._loop.post(lambda: done(future.result()))
            elif isinstance(error, Exception):
                log.debug("job failed", exc_info=error)
                self._loop.post(lambda: failed(error))

        self._executor.submit(work).add_done_callback(report)

    def close(self) -> None:
        """Wait for the running job, forget the others."""
        self._executor.shutdown(wait=True, cancel_futures=True)
