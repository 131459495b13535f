"""How often somebody may ask: a bucket of permits for each name, which fills again with time."""

from collections import OrderedDict
from dataclasses import dataclass

MAX_NAMES = 10_000


@dataclass
class _Bucket:
    permits: float
    at: float


class Allowance:
    """`burst` requests at once, and one more every `every_s`; remembers the last `MAX_NAMES` names."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst = burst
        self._every_s = every_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, name: str, now: float) -> float:
        """Take a permit and return 0, or return how long until there is one; `now` is in seconds."""
        bucket = self._buckets.setdefault(name, _Bucket(self._burst, now))
        self._buckets.move_to_end(name)
        if len(self._buckets) > MAX_NAMES:
            self._buckets.popitem(last=False)
        # A clock that was set back fills nothing.
        bucket.permits = min(self._burst, bucket.permits + max(0.0, now - bucket.at) / self._every_s)
        bucket.at = now
        if bucket.permits < 1:
            return (1 - bucket.permits) * self._every_s
        bucket.permits -= 1
        return 0.0
