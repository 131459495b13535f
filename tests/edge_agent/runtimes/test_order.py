import numpy as np
import pytest

from broker.messages import TrainingSettings
from edge_agent.runtimes.order import passes, rows_in_all


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
