"""In what order examples are trained on, and how fast: all of it follows from the settings."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from broker.messages import TrainingSettings
from edge_agent.runtimes.rates import rate_of_step
from host.errors import DataError


class Course:
    """One training: the rows of its passes, and how many steps and different examples they come to.

    Raises DataError when nothing would be left to train on.
    """

    def __init__(self, count: int, settings: TrainingSettings, *, full_batches: bool) -> None:
        self._passes = passes(count, settings, full_batches=full_batches)
        self._schedule = settings.schedule
        self._seen = np.zeros(count, bool)
        self.steps = steps_in_all(count, settings, full_batches=full_batches)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Go through it, once."""
        for rows in self._passes:
            self._seen[rows] = True
            yield rows

    @property
    def examples(self) -> int:
        """How many different ones there were up to now."""
        return int(self._seen.sum())

    def rate(self, base: float, step: int) -> float:
        """The learning rate of a step, from 0."""
        return rate_of_step(base, self._schedule, step, self.steps)


def passes(
    count: int, settings: TrainingSettings, *, full_batches: bool = False
) -> Iterator[NDArray[np.int64]]:
    """Give rows of `count` examples, int64, to be cut into batches: one array an epoch, each in a new order.

    With `steps` there is one array, steps * batch_size long: as many whole orders as it takes, and a part.
    With `full_batches`, for models that see a batch as a whole, the last one of an epoch is never short: as
    `settings.short_batch` says, it is refilled from the start of the epoch's order, or dropped. Raises
    DataError when nothing would be left.
    """
    random = np.random.default_rng(settings.seed)
    if settings.epochs is not None:
        for _ in range(settings.epochs):
            order = random.permutation(count)
            yield np.resize(order, _epoch_rows(count, settings)) if full_batches else order
    else:
        # All of it at once: what does not fit into memory fails here, before it is filled.
        stream = np.empty(rows_in_all(count, settings), np.int64)
        for start in range(0, len(stream), count):
            part = stream[start : start + count]
            part[:] = random.permutation(count)[: len(part)]
        yield stream


def rows_in_all(count: int, settings: TrainingSettings) -> int:
    """How many rows all passes have together, short batches as they are."""
    if settings.epochs is not None:
        return count * settings.epochs
    assert settings.steps is not None
    return settings.steps * settings.batch_size


def steps_in_all(count: int, settings: TrainingSettings, *, full_batches: bool = False) -> int:
    """How many batches all passes have together; raises DataError when nothing would be left of them."""
    if settings.steps is not None:
        return settings.steps
    assert settings.epochs is not None
    rows = _epoch_rows(count, settings) if full_batches else count
    return settings.epochs * -(-rows // settings.batch_size)


def _epoch_rows(count: int, settings: TrainingSettings) -> int:
    """Rows of an epoch in whole batches."""
    size = settings.batch_size
    if settings.short_batch == "refill":
        return -(-count // size) * size
    if count < size:
        raise DataError(
            f"{count} examples to train on are no whole batch of {size}, and short_batch = 'drop' leaves "
            "nothing: set batch_size lower, or short_batch to 'refill'"
        )
    return count // size * size
