"""Waiting times that grow and are spread by chance, so that a fleet does not knock all at once."""

from random import Random

FIRST_S = 1.0
LONGEST_S = 30.0


class Backoff:
    """Exponential back-off with full jitter.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._ceiling_s = FIRST_S

    def within_s(self, window_s: float) -> float:
        """A moment of a window in which the whole fleet does the same thing once."""
        return self._random.uniform(0, window_s)

    def reset(self) -> None:
        """Start again with the shortest wait."""
        self._ceiling_s = FIRST_S

    def delay_s(self) -> float:
        """The next wait: uniform below a ceiling that doubles up to `LONGEST_S`."""
        delay = self._random.uniform(0, self._ceiling_s)
        self._ceiling_s = min(2 * self._ceiling_s, LONGEST_S)
        return delay
