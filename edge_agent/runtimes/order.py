"""In what order examples are trained on: all of it follows from the seed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from broker.messages import TrainingSettings


def passes(count: int, settings: TrainingSettings) -> Iterator[NDArray[np.int64]]:
    """Give rows of `count` examples, int64, to be cut into batches: one array an epoch, each in a new order.

    With `steps` there is one array, steps * batch_size long: as many whole orders as it takes, and a part.
    """
    random = np.random.default_rng(settings.seed)
    if settings.epochs is not None:
        for _ in range(settings.epochs):
            yield random.permutation(count)
    else:
        rows = rows_in_all(count, settings)
        orders = [random.permutation(count) for _ in range(-(-rows // count))]
        yield np.concatenate(orders)[:rows]


def rows_in_all(count: int, settings: TrainingSettings) -> int:
    """How many rows all passes have together."""
    if settings.epochs is not None:
        return count * settings.epochs
    assert settings.steps is not None
    return settings.steps * settings.batch_size
