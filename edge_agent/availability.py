"""Whether this device may take part in rounds now, and why it may not."""

from typing import NamedTuple

from broker.messages import DeclineReason

# What changes by the minute is over when it was not met for so long: nobody is told of every flicker.
CALM_S = 60.0
# What changes when somebody says so is told at once.
PLANNED = frozenset({DeclineReason.PAUSED, DeclineReason.HOURS})


class Hindrance(NamedTuple):
    """Why no work can be done: `detail` is a sentence with figures, for people."""

    reason: DeclineReason
    detail: str


class Availability:
    """The hindrance that stands: it begins at once, and ends at once only if it was planned."""

    def __init__(self) -> None:
        self.hindrance: Hindrance | None = None
        self._calm_since: float | None = None

    def judged(self, found: Hindrance | None, now: float) -> bool:
        """Take what was found at time `now`; whether something else stands now.

        Of several that were not planned, the first is told until a while has passed without any.
        """
        before = self.hindrance
        if found is not None:
            self._calm_since = None
            if before is None or {before.reason, found.reason} & PLANNED:
                self.hindrance = found
        elif before is not None:
            self._calm_since = now if self._calm_since is None else self._calm_since
            if before.reason in PLANNED or now - self._calm_since >= CALM_S:
                self.hindrance = self._calm_since = None
        return self.hindrance != before
