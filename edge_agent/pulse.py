"""When the next heartbeat is due, and the vitals that it tells."""

from edge_agent.events import VitalsMeasured

DEFAULT_INTERVAL_S = 5.0


class Pulse:
    """Beats while connected: in the federation's rhythm, and at once when asked to."""

    def __init__(self) -> None:
        self.interval_s = DEFAULT_INTERVAL_S
        self.next_at: float | None = None
        self.vitals = VitalsMeasured(0, None)

    @property
    def alive(self) -> bool:
        """Whether it beats at all."""
        return self.next_at is not None

    def start(self, now: float) -> None:
        """Let the first heartbeat be due now."""
        self.next_at = now

    def stop(self) -> None:
        """Beat no more."""
        self.next_at = None

    def keep_rhythm(self, interval_s: float, now: float) -> None:
        """Beat every so many seconds from now on."""
        self.interval_s = interval_s
        if self.next_at is not None:
            self.next_at = min(self.next_at, now + interval_s)

    def is_due(self, now: float) -> bool:
        """Whether a heartbeat is to be said now."""
        return self.next_at is not None and now >= self.next_at

    def has_beaten(self, now: float) -> None:
        """Wait an interval for the next one."""
        self.next_at = now + self.interval_s
