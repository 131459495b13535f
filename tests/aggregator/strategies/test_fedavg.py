import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.strategies.base import BLOCK
from aggregator.strategies.fedavg import FedAvg
from broker.layout import Layout, Theta

LAYOUT = Layout(trainable=((2,),), state=((1,),))


def vector(*values: float) -> Theta:
    return np.array(values, np.float32)


def average(theta: Theta, updates: list[tuple[Theta, float]], layout: Layout = LAYOUT) -> Theta:
    strategy = FedAvg()
    strategy.begin(theta, layout)
    for delta, weight in updates:
        strategy.add({"delta": delta}, weight, {})
    return strategy.finish()


def test_deltas_are_weighted_by_examples() -> None:
    # (1 * (4, 0, 8) + 3 * (0, 4, 4)) / 4 = (1, 3, 5)
    result = average(vector(10, 20, 30), [(vector(4, 0, 8), 1.0), (vector(0, 4, 4), 3.0)])
    assert result.tolist() == [11.0, 23.0, 35.0]
    assert result.dtype == np.float32


def test_a_single_update_gives_the_devices_own_theta() -> None:
    assert average(vector(1, 2, 3), [(vector(0.5, -2, 1), 60.0)]).tolist() == [1.5, 0.0, 4.0]


def test_without_updates_theta_stays() -> None:
    assert average(vector(1, 2, 3), []).tolist() == [1.0, 2.0, 3.0]


def test_what_it_is_given_is_not_written_to() -> None:
    theta, delta = vector(1, 2, 3), vector(1, 1, 1)
    theta.flags.writeable = delta.flags.writeable = False
    assert average(theta, [(delta, 1.0)]).tolist() == [2.0, 3.0, 4.0]


def test_a_small_delta_is_not_lost_beside_a_heavy_one() -> None:
    # In float32 the sum 1e9 * 1 + 1 * 1e-3 would forget the second term of each of a thousand updates.
    updates = [(vector(1, 0, 0), 1e9), *[(vector(1e6, 0, 0), 1.0)] * 1000]
    exact = (1e9 + 1000 * 1e6) / (1e9 + 1000)
    assert average(vector(0, 0, 0), updates)[0] == np.float32(exact)


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 1])
def test_every_block_is_averaged(length: int) -> None:
    theta = np.arange(length, dtype=np.float32)
    layout = Layout(trainable=((length,),))
    result = average(theta, [(theta, 1.0), (-theta, 1.0), (np.ones(length, np.float32), 2.0)], layout)
    np.testing.assert_array_equal(result, theta + np.float32(0.5))


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), st.integers(1, 100_000)),
        min_size=1,
        max_size=8,
    )
)
def test_the_mean_lies_between_the_extremes(updates: list[tuple[list[float], int]]) -> None:
    deltas = np.array([delta for delta, _ in updates], np.float32)
    result = average(
        vector(0, 0, 0), [(delta, float(n)) for delta, (_, n) in zip(deltas, updates, strict=True)]
    )
    assert (result >= np.nextafter(deltas.min(axis=0), np.float32(-np.inf))).all()
    assert (result <= np.nextafter(deltas.max(axis=0), np.float32(np.inf))).all()
