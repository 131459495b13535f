import numpy as np
import pytest

from broker.messages import TrainingSettings
from edge_agent.runtimes.order import passes, rows_in_all, steps_in_all
from host.errors import DataError


def test_each_epoch_is_a_new_order_of_all_rows() -> None:
    settings = TrainingSettings(epochs=3, seed=5)
    orders = [order.tolist() for order in passes(20, settings)]
    assert [sorted(order) for order in orders] == [list(range(20))] * 3
    assert orders[0] != orders[1] != orders[2]
    assert [order.tolist() for order in passes(20, settings)] == orders
    assert [order.tolist() for order in passes(20, settings.model_copy(update={"seed": 6}))] != orders


@pytest.mark.parametrize(("steps", "batch_size", "rows"), [(1, 4, 4), (5, 4, 20), (2, 64, 128)])
def test_steps_are_a_stream_of_whole_orders_cut_to_length(steps: int, batch_size: int, rows: int) -> None:
    settings = TrainingSettings(epochs=None, steps=steps, batch_size=batch_size)
    (stream,) = passes(10, settings)
    assert len(stream) == rows == rows_in_all(10, settings)
    for start in range(0, rows - 9, 10):
        assert sorted(stream[start : start + 10]) == list(range(10))
    assert np.bincount(stream, minlength=10).max() <= -(-rows // 10)


def test_more_steps_than_memory_can_list_are_refused_before_it_is_filled() -> None:
    settings = TrainingSettings(epochs=None, steps=100_000_000, batch_size=1_000_000)
    with pytest.raises(MemoryError):
        next(passes(10, settings))


def test_an_epochs_last_batch_is_refilled_from_the_start_of_its_order() -> None:
    settings = TrainingSettings(epochs=2, batch_size=8)
    for short, full in zip(passes(20, settings), passes(20, settings, full_batches=True), strict=True):
        assert full.tolist() == [*short, *short[:4]]
    (one,) = passes(3, TrainingSettings(batch_size=8), full_batches=True)
    assert sorted(one[:3]) == [0, 1, 2]
    assert one.tolist() == [*one[:3], *one[:3], *one[:2]]


def test_an_epochs_last_batch_is_dropped_when_asked() -> None:
    settings = TrainingSettings(epochs=2, batch_size=8, short_batch="drop")
    for short, full in zip(passes(20, settings), passes(20, settings, full_batches=True), strict=True):
        assert full.tolist() == short[:16].tolist()


def test_fewer_examples_than_a_batch_are_never_dropped_without_a_word() -> None:
    settings = TrainingSettings(batch_size=8, short_batch="drop")
    for what in (lambda: next(passes(7, settings, full_batches=True)), lambda: _steps(7, settings)):
        with pytest.raises(DataError, match="7 examples to train on are no whole batch of 8"):
            what()
    assert _steps(8, settings) == 1


@pytest.mark.parametrize("short_batch", ["refill", "drop"])
@pytest.mark.parametrize("full_batches", [False, True])
@pytest.mark.parametrize("length", [{"epochs": 3}, {"steps": 7}], ids=["epochs", "steps"])
def test_the_number_of_steps_is_that_of_the_batches(
    short_batch: str, length: dict[str, int], *, full_batches: bool
) -> None:
    settings = TrainingSettings.model_validate({"batch_size": 8, "short_batch": short_batch, **length})
    batches = sum(-(-len(rows) // 8) for rows in passes(20, settings, full_batches=full_batches))
    assert batches == steps_in_all(20, settings, full_batches=full_batches)


def _steps(count: int, settings: TrainingSettings) -> int:
    return steps_in_all(count, settings, full_batches=True)
