"""The trainer's signs of life: how far its job is, and how fast. One that is silent for long is ended."""

import time

from broker.layout import Theta
from edge_agent.data.examples import Examples
from edge_agent.runtimes.base import MetricSums, Progress, Runtime
from edge_agent.speed import Speedometer
from host.children import Emit, Json

TOLD_EVERY_S = 0.05
# Of examples, at least as many as a batch: so many are evaluated without a sign of life.
BLOCK = 1024


class Teller:
    """Passes progress on, at most some times a second; `rows` are all that the job goes through."""

    def __init__(self, rows: int, emit: Emit) -> None:
        self._rows, self._emit = rows, emit
        self._began = self._told = time.monotonic()
        self._last: Json = {}
        self.tell(0)

    def __call__(self, fraction: float) -> None:
        """Take the fraction done from a runtime, which may count in numpy's types and round past 1."""
        if self._is_due():
            self.tell(_fraction(fraction))

    def tell(self, fraction: float) -> None:
        """Pass it on in any case, where something begins that may take long."""
        seconds = time.monotonic() - self._began
        rate = fraction * self._rows / seconds if seconds else 0.0
        self._last = {"event": "progress", "progress": fraction, "examples_per_s": rate}
        self._say()

    def again(self, _fraction: float) -> None:
        """Pass on what was told last: a sign of life from work that is no part of the job's progress."""
        if self._is_due():
            self._say()

    def _is_due(self) -> bool:
        return time.monotonic() - self._told >= TOLD_EVERY_S

    def _say(self) -> None:
        self._told = time.monotonic()
        self._emit(self._last)


class TrainingTeller(Teller):
    """Tells once how fast training is, too."""

    def __init__(self, rows: int, emit: Emit) -> None:
        super().__init__(rows, emit)
        self._speed = Speedometer(rows, self._began)

    def __call__(self, fraction: float) -> None:
        """Take the fraction done, after every batch."""
        self._measured(self._speed.passed(_fraction(fraction), time.monotonic()))
        super().__call__(fraction)

    def end(self) -> None:
        """Training is over; measuring may still take long."""
        self._measured(self._speed.ended(time.monotonic()))
        self.tell(1)

    def _measured(self, examples_per_s: float | None) -> None:
        if examples_per_s is not None:
            self._emit({"event": "measured", "examples_per_s": examples_per_s})


def evaluate(
    runtime: Runtime, theta: Theta, examples: Examples, batch_size: int, progress: Progress
) -> MetricSums:
    """Evaluate block by block, in whole batches, with progress after each; a runtime's sums add up."""
    count, size = len(examples.x), -(-BLOCK // batch_size) * batch_size
    sums: dict[str, tuple[float, float]] = {}
    for begin in range(0, count, size):
        end = min(begin + size, count)
        found = runtime.evaluate(theta, Examples(examples.x[begin:end], examples.y[begin:end]))
        for name, (value, weight) in found.items():
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + float(value), before[1] + float(weight))
        progress(end / count)
    return sums


def _fraction(value: float) -> float:
    """Between 0 and 1, whatever a runtime says; what is no number is 0."""
    return min(max(0.0, float(value)), 1.0)
