"""A token bucket: so much at once, so much a second.

Source: https://en.wikipedia.org/wiki/Token_bucket
"""


class Bucket:
    """Full at first; `now` is a clock that only goes forward, in seconds."""

    def __init__(self, per_s: float, at_once: float) -> None:
        self._per_s = per_s
        self._at_once = at_once
        self._level = at_once
        self._filled_at: float | None = None

    def refill(self, now: float) -> None:
        """Add what came in since the last time."""
        since_s = 0.0 if self._filled_at is None else now - self._filled_at
        self._level = min(self._at_once, self._level + since_s * self._per_s)
        self._filled_at = now

    def holds(self, amount: float) -> bool:
        """Whether so much can be taken; of what is more than half of the bucket, half has to be there."""
        return self._level >= min(amount, self._at_once / 2)

    def take(self, amount: float) -> None:
        """Take it, and be in debt for what was not there."""
        self._level -= amount
