"""How fast a device trains with a program: taken from its own training, which nothing is added to."""

MEASURED_FOR_S = 1.0
# Two readings of the clock may give the same.
SHORTEST_S = 1e-6


class Speedometer:
    """Finds the examples a second once, from the fractions done of `rows` in all; times in seconds.

    It takes `MEASURED_FOR_S` from the end of the first step, which may compile; less where training is
    shorter, and the whole where nothing but the whole is known.
    """

    def __init__(self, rows: int, began: float) -> None:
        self._rows = rows
        self._begin = (0.0, began)
        self._first: tuple[float, float] | None = None
        self._last = self._begin
        self._found = False

    def passed(self, fraction: float, now: float) -> float | None:
        """Note how much is done; gives the speed when it is known, once."""
        self._last = fraction, now
        if self._first is None:
            self._first = self._last
        if self._found or now - self._first[1] < MEASURED_FOR_S or fraction <= self._first[0]:
            return None
        return self._between(self._first, self._last)

    def ended(self, now: float) -> float | None:
        """Give the speed if it was not known before training ended."""
        if self._found:
            return None
        if self._first is None or self._last[0] <= self._first[0]:
            return self._between(self._begin, (1.0, now))
        return self._between(self._first, self._last)

    def _between(self, start: tuple[float, float], end: tuple[float, float]) -> float:
        self._found = True
        return (end[0] - start[0]) * self._rows / max(end[1] - start[1], SHORTEST_S)
