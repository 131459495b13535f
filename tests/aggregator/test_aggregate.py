import hashlib
import itertools
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aggregator.aggregate import SpooledUpdate, aggregate, state_path, verify
from aggregator.strategies.base import BLOCK, State, Strategy
from aggregator.strategies.fedavg import FedAvg
from broker.layout import Layout, Theta
from broker.messages import RejectReason
from broker.names import Metrics
from broker.update import encode_update
from host.errors import DataError, StorageError

LAYOUT = Layout(trainable=((3,),))
LARGE = Layout(trainable=((4, BLOCK),), state=((1,),))


def update_file(path: Path, delta: Theta, layout: str = LAYOUT.digest, name: str = "delta") -> Path:
    path.write_bytes(b"".join(encode_update(layout, {name: delta})))
    return path


def vector(*values: float) -> Theta:
    return np.array(values, np.float32)


class Momentum(FedAvg):
    """Keeps half of the last step, as an example of a strategy with state."""

    def begin(self, theta: Theta, layout: Layout) -> None:
        super().begin(theta, layout)
        self._before = theta

    def finish(self) -> Theta:
        step = super().finish() - self._before + np.float32(0.5) * self.state.get("step", np.float32(0))
        self.state = {"step": step}
        return self._before + step


class Returning:
    """Returns what it is told to."""

    def __init__(self, result: Theta) -> None:
        self.state: State = {}
        self._result = result

    def begin(self, theta: Theta, layout: Layout) -> None:
        pass

    def add(self, update: Mapping[str, Theta], weight: float, metrics: Metrics) -> None:
        pass

    def finish(self) -> Theta:
        return self._result


@pytest.mark.parametrize("max_norm", [None, 5.0])
def test_a_sound_update_is_verified(tmp_path: Path, max_norm: float | None) -> None:
    assert verify(update_file(tmp_path / "u", vector(3, 0, -4)), LAYOUT, max_norm) is None


def test_an_update_above_the_norm_is_rejected(tmp_path: Path) -> None:
    assert verify(update_file(tmp_path / "u", vector(3, 0, -4)), LAYOUT, 4.999) is RejectReason.NORM


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, BLOCK, 4 * BLOCK])
def test_a_value_that_is_not_finite_is_found_wherever_it_is(tmp_path: Path, value: float, index: int) -> None:
    delta = np.zeros(LARGE.size, np.float32)
    delta[index] = value
    path = update_file(tmp_path / "u", delta, LARGE.digest)
    assert verify(path, LARGE, None) is RejectReason.NOT_FINITE


def test_the_largest_floats_are_finite(tmp_path: Path) -> None:
    largest = float(np.finfo(np.float32).max)
    path = update_file(tmp_path / "u", vector(largest, -largest, largest))
    assert verify(path, LAYOUT, None) is None
    assert verify(path, LAYOUT, 1e30) is RejectReason.NORM


def test_an_update_of_another_layout_is_rejected(tmp_path: Path) -> None:
    path = update_file(tmp_path / "u", vector(1, 2, 3), layout="0" * 64)
    assert verify(path, LAYOUT, None) is RejectReason.LAYOUT


@pytest.mark.parametrize("delta", [vector(1, 2), vector(1, 2, 3, 4), vector()])
def test_a_vector_of_another_length_is_rejected(tmp_path: Path, delta: Theta) -> None:
    assert verify(update_file(tmp_path / "u", delta), LAYOUT, None) is RejectReason.LAYOUT


def test_a_vector_of_another_name_is_rejected(tmp_path: Path) -> None:
    path = update_file(tmp_path / "u", vector(1, 2, 3), name="gradient")
    assert verify(path, LAYOUT, None) is RejectReason.LAYOUT


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_truncated_update_is_malformed(tmp_path: Path, kept: int) -> None:
    path = update_file(tmp_path / "u", vector(1, 2, 3))
    path.write_bytes(path.read_bytes()[:kept])
    assert verify(path, LAYOUT, None) is RejectReason.MALFORMED


def test_verifying_takes_memory_for_a_block_only(tmp_path: Path) -> None:
    large = Layout(trainable=((64 * BLOCK,),))
    path = update_file(tmp_path / "u", np.ones(large.size, np.float32), large.digest)
    tracemalloc.start()
    try:
        assert verify(path, large, None) is None
        assert tracemalloc.get_traced_memory()[1] < 4 * 8 * BLOCK
    finally:
        tracemalloc.stop()


def spooled(folder: Path, deltas: Mapping[str, Theta], examples: int = 1) -> list[SpooledUpdate]:
    return [
        SpooledUpdate(device, update_file(folder / device, delta), examples, {})
        for device, delta in deltas.items()
    ]


def theta_file(path: Path, theta: Theta) -> Path:
    path.write_bytes(theta.tobytes())
    return path


def run_rounds(folder: Path, strategies: list[Strategy], delta: Theta) -> list[list[float]]:
    thetas = []
    current = theta_file(folder / "round-0000.f32", vector(0, 0, 0))
    for number, strategy in enumerate(strategies, start=1):
        out = folder / f"round-{number:04}.f32"
        aggregate(strategy, LAYOUT, current, spooled(folder, {"pi": delta}), out)
        thetas.append(np.fromfile(out, "<f4").tolist())
        current = out
    return thetas


def test_the_new_theta_is_written_and_its_digest_returned(tmp_path: Path) -> None:
    theta = theta_file(tmp_path / "theta.f32", vector(1, 2, 3))
    updates = spooled(tmp_path, {"a": vector(2, 0, 0), "b": vector(0, 4, 0)})
    out = tmp_path / "next.f32"
    digest = aggregate(FedAvg(), LAYOUT, theta, updates, out)
    assert np.fromfile(out, "<f4").tolist() == [2.0, 4.0, 3.0]
    assert digest == hashlib.sha256(out.read_bytes()).hexdigest()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "next.f32", "theta.f32"]


def test_the_bits_do_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    # Added in another order, also in float64, the huge ones swallow the small one.
    theta = theta_file(tmp_path / "theta.f32", vector(0, 0, 0))
    updates = spooled(
        tmp_path, {"a": vector(1e20, 1, 0), "b": vector(-1e20, 0, 1e20), "c": vector(3, 2, -1e20)}
    )
    digests = {
        aggregate(FedAvg(), LAYOUT, theta, order, tmp_path / "next.f32")
        for order in itertools.permutations(updates)
    }
    assert len(digests) == 1


def test_a_late_update_of_a_device_counts_beside_its_fresh_one_and_for_less(tmp_path: Path) -> None:
    theta = theta_file(tmp_path / "theta.f32", vector(0, 0, 0))
    (fresh,) = spooled(tmp_path, {"a": vector(2, 0, 0)}, examples=6)
    late_file = update_file(tmp_path / "late", vector(0, 2, 0))
    late = SpooledUpdate("a", late_file, 4, {}, round=1, weight=0.5)
    digests = set()
    for order in ([replace(fresh, round=2), late], [late, replace(fresh, round=2)]):
        digests.add(aggregate(FedAvg(), LAYOUT, theta, order, tmp_path / "next.f32"))
        assert np.fromfile(tmp_path / "next.f32", "<f4").tolist() == [1.5, 0.5, 0.0]
    assert len(digests) == 1


def test_a_strategys_state_reaches_the_next_round(tmp_path: Path) -> None:
    thetas = run_rounds(tmp_path, [Momentum(), Momentum(), Momentum()], vector(1, 2, 4))
    assert thetas == [[1.0, 2.0, 4.0], [2.5, 5.0, 10.0], [4.25, 8.5, 17.0]]


def test_a_repeated_round_begins_from_the_same_state(tmp_path: Path) -> None:
    run_rounds(tmp_path, [Momentum(), Momentum()], vector(1, 2, 4))
    out, theta = tmp_path / "round-0002.f32", tmp_path / "round-0001.f32"
    before = out.read_bytes()
    aggregate(Momentum(), LAYOUT, theta, spooled(tmp_path, {"pi": vector(1, 2, 4)}), out)
    assert out.read_bytes() == before


def test_a_strategy_without_state_leaves_no_file(tmp_path: Path) -> None:
    run_rounds(tmp_path, [FedAvg()], vector(1, 2, 4))
    assert not state_path(tmp_path / "round-0001.f32").exists()


def test_a_damaged_state_is_an_error(tmp_path: Path) -> None:
    theta = theta_file(tmp_path / "theta.f32", vector(0, 0, 0))
    state_path(theta).write_bytes(b"no arrays")
    with pytest.raises(StorageError, match="damaged"):
        aggregate(FedAvg(), LAYOUT, theta, [], tmp_path / "next.f32")


@pytest.mark.parametrize("size", [0, 11, 16])
def test_a_theta_that_does_not_fit_the_layout_is_an_error(tmp_path: Path, size: int) -> None:
    theta = tmp_path / "theta.f32"
    theta.write_bytes(bytes(size))
    with pytest.raises(StorageError, match="12 bytes"):
        aggregate(FedAvg(), LAYOUT, theta, [], tmp_path / "next.f32")


@pytest.mark.parametrize("result", [vector(1, 2), np.zeros((3, 1), np.float32)])
def test_a_result_of_the_wrong_shape_is_not_written(tmp_path: Path, result: Theta) -> None:
    theta = theta_file(tmp_path / "theta.f32", vector(0, 0, 0))
    with pytest.raises(DataError, match=r"instead of float32\[3\]"):
        aggregate(Returning(result), LAYOUT, theta, [], tmp_path / "next.f32")
    assert not (tmp_path / "next.f32").exists()


def test_a_result_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    largest = float(np.finfo(np.float32).max)
    theta = theta_file(tmp_path / "theta.f32", vector(largest, 0, 0))
    updates = spooled(tmp_path, {"a": vector(largest, 0, 0)})
    with pytest.raises(DataError, match="max_norm"):
        aggregate(FedAvg(), LAYOUT, theta, updates, tmp_path / "next.f32")
    assert not (tmp_path / "next.f32").exists()


def peak_bytes(folder: Path, devices: int) -> int:
    """The memory that aggregating this many updates takes at most."""
    folder.mkdir()
    theta = folder / "theta.f32"
    np.zeros(LARGE.size, np.float32).tofile(theta)
    updates = [
        SpooledUpdate(
            f"pi-{number:02}",
            update_file(folder / f"{number}", np.ones(LARGE.size, np.float32), LARGE.digest),
            10,
            {},
        )
        for number in range(devices)
    ]
    tracemalloc.start()
    try:
        aggregate(FedAvg(), LARGE, theta, updates, folder / "out.f32")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_it_takes_does_not_grow_with_the_number_of_devices(tmp_path: Path) -> None:
    few, many = peak_bytes(tmp_path / "few", 2), peak_bytes(tmp_path / "many", 60)
    # A tenth of one update, where each of the 58 more would have cost a whole one.
    assert many < few + LARGE.size * 4 // 10
