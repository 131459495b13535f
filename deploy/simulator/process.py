"""A simulated process: any of its steps may be its last, and its machine starts it again."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from deploy.simulator.clock import Alarm, Clock
from deploy.simulator.disk import Disk, PowerCut


class Process(ABC):
    """One machine with one process on it; each time it is started begins another life."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.disk = Disk(clock)
        self.running = False
        self.crashes = 0
        self.cut_off_until = 0.0
        self._life = 0
        self._stalled_until = 0.0

    @abstractmethod
    def crash(self, *, power: bool) -> None:
        """End the process, with its machine or without; it is started again some time later."""

    @abstractmethod
    def _due(self) -> tuple[float | None, ...]:
        """When its parts want to be woken, on the simulated clock."""

    @abstractmethod
    def _fire(self) -> None:
        """Wake the parts whose time has come."""

    def _begin(self) -> None:
        self.running = True
        self._life += 1
        self._alarm = Alarm(self._clock, self._guarded(self._fire))

    def _end(self) -> None:
        self.running = False
        self._life += 1
        self._stalled_until = 0.0

    @property
    def _stalls(self) -> bool:
        """Whether the loop stands still: what comes meanwhile has to wait."""
        return self._clock.now < self._stalled_until

    def _reaches_the_broker(self) -> bool:
        return self._clock.now >= self.cut_off_until

    def _guarded(self, action: Callable[[], None]) -> Callable[[], None]:
        """Make this wait while the loop stands still, and do nothing once this life has ended."""
        life = self._life

        def run() -> None:
            if life == self._life and self._stalls:
                self._clock.at(self._stalled_until, run)
            elif life == self._life:
                self._guard(action)

        return run

    def _guard(self, action: Callable[[], None]) -> None:
        """Run a step of the process, which may be its last."""
        life = self._life
        try:
            action()
        except PowerCut:
            self.crash(power=self._clock.chance.random() < 0.5)  # noqa: PLR2004 - as often as not
        if life == self._life:
            soonest = min((at for at in self._due() if at is not None), default=None)
            self._alarm.set(None if soonest is None else max(soonest, self._stalled_until))
