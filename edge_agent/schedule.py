"""When to ask for the next certificate: pure, times are passed in.

The registrar says how long to wait. From start to start the machine's clock measures that; where it cannot be
right, the agent asks once and is told again: without a clock it neither forgets to ask nor asks without end.
"""

from random import Random

# Before this was written (2026-01-01), every clock is wrong.
EARLIEST_UNIX_S = 1_767_225_600.0
# Who does not know when to ask, asks within so long: a fleet may have been switched on together.
SPREAD_S = 600.0
# Who does, asks so much later, as a fraction of the wait: a fleet may have been enrolled together.
JITTER = 0.05
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 86_400.0
SHORTEST_WAIT_S = 1.0


class Schedule:
    """`ask_at` is when to ask, by the clock of `now`, which is monotonic; all in seconds."""

    def __init__(self, random: Random, spread_s: float = SPREAD_S) -> None:
        self._random = random
        self._spread_s = spread_s
        self._pause_s = FIRST_PAUSE_S
        self.ask_at = float("inf")

    def start(
        self, now: float, unix_s: float, noted_unix_s: float | None, renew_unix_s: float | None
    ) -> None:
        """Begin with what was kept; `unix_s` is what the machine takes for the time."""
        is_right = noted_unix_s is not None and unix_s >= max(noted_unix_s, EARLIEST_UNIX_S)
        if is_right and renew_unix_s is not None:
            self.ask_at = now + max(0.0, renew_unix_s - unix_s)
        else:
            self.ask_at = now + self._random.uniform(0, self._spread_s)

    def hurry(self, within_s: float, now: float) -> None:
        """Ask within so long, at random: others were told the same."""
        self.ask_at = min(self.ask_at, now + self._random.uniform(0, within_s))

    def asked(self, now: float) -> None:
        """Without an answer, ask again after a pause that doubles."""
        self.ask_at = now + self._random.uniform(self._pause_s / 2, self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def told(self, wait_s: float, now: float) -> float:
        """Take the registrar's word; returns the wait that follows from it."""
        self._pause_s = FIRST_PAUSE_S
        wait_s = max(SHORTEST_WAIT_S, wait_s) * self._random.uniform(1, 1 + JITTER)
        self.ask_at = now + wait_s
        return wait_s
