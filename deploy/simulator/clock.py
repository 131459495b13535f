"""Simulated time: one queue of what is to happen, and the chance that all of it draws from."""

import heapq
import random
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

Action: TypeAlias = Callable[[], None]


class Clock:
    """Runs actions in the order of their times, in seconds; those of one time as they came."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.chance = random.Random(seed)  # noqa: S311 - a simulation must be repeatable
        self.steps = 0
        self._queue: list[tuple[float, int, Action]] = []
        self._order = count()

    def at(self, time: float, action: Action) -> None:
        """Have this done at a time; at once when that is past."""
        heapq.heappush(self._queue, (max(time, self.now), next(self._order), action))

    def after(self, delay_s: float, action: Action) -> None:
        """Have this done so much later."""
        self.at(self.now + delay_s, action)

    def step(self) -> None:
        """Do what comes next; raises IndexError when nothing does."""
        self.now, _, action = heapq.heappop(self._queue)
        self.steps += 1
        action()

    def happens(self, probability: float) -> bool:
        """Draw whether something of this probability happens; for what is impossible, nothing is drawn."""
        return probability > 0 and self.chance.random() < probability


class Alarm:
    """Wakes one process at the earliest time it named since it was woken last."""

    def __init__(self, clock: Clock, ring: Action) -> None:
        self._clock = clock
        self._ring = ring
        self._set_for: float | None = None

    def set(self, due: float | None) -> None:
        """Ring at this time; None: not unless a time was set already, which may then ring for nothing."""
        if due is None or (self._set_for is not None and self._set_for <= due):
            return
        self._set_for = due
        self._clock.at(due, lambda: self._rings(due))

    def _rings(self, due: float) -> None:
        if self._set_for == due:
            self._set_for = None
            self._ring()
