import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deploy.simulator.training.partition import (
    Material,
    Partition,
    Rows,
    by_column,
    by_label,
    chance_of,
    dirichlet,
)
from host.errors import ConfigError, DataError

LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=300).map(lambda found: np.array(found, np.int32))
MNIST_LIKE = np.repeat(np.arange(10, dtype=np.int32), 600)


def material(labels: NDArray[np.int32]) -> Material:
    return Material(len(labels), labels)


def once_each(parts: list[Rows], examples: int) -> bool:
    return np.array_equal(np.sort(np.concatenate(parts)), np.arange(examples))


def kinds(parts: list[Rows], labels: NDArray[np.int32]) -> list[int]:
    return [len(np.unique(labels[part])) for part in parts]


@settings(max_examples=60, deadline=None)
@given(
    labels=LABELS,
    data=st.data(),
    seed=st.integers(0, 1 << 62),
    alpha=st.floats(-6, 6).map(lambda power: 10**power),
)
def test_each_example_lies_on_one_device_and_sizes_differ_by_one_at_most(
    labels: NDArray[np.int32], data: st.DataObject, seed: int, alpha: float
) -> None:
    devices = data.draw(st.integers(1, min(40, len(labels))), "devices")
    for way in (Partition("iid"), Partition("dirichlet", alpha=alpha)):
        parts = way.cut(material(labels), devices, seed)
        assert len(parts) == devices
        assert once_each(parts, len(labels))
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        assert all(np.array_equal(part, np.sort(part)) for part in parts)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, devices=st.integers(1, 40), count=st.integers(1, 10), seed=st.integers(0, 1 << 62))
def test_by_label_gives_each_device_so_many_labels_and_each_example_once_or_says_that_it_cannot(
    labels: NDArray[np.int32], devices: int, count: int, seed: int
) -> None:
    present = len(np.unique(labels))
    try:
        parts = by_label(labels, devices, count, chance_of(seed))
    except DataError:
        assert count > present or devices * count < present
        return
    assert len(parts) == devices
    assert once_each(parts, len(labels))
    assert max(kinds(parts, labels)) <= count


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.text(max_size=2), min_size=1, max_size=100), data=st.data())
def test_by_column_leaves_no_value_on_two_devices(values: list[str], data: st.DataObject) -> None:
    column = np.array(values, np.str_)
    devices = data.draw(st.none() | st.integers(1, len(np.unique(column))), "devices")
    parts = by_column(column, devices)
    assert len(parts) == (devices or len(np.unique(column)))
    assert once_each(parts, len(column))
    assert sum(len(np.unique(column[part])) for part in parts) == len(np.unique(column))


def test_by_label_gives_every_device_that_many_labels_where_there_are_examples_enough() -> None:
    parts = by_label(MNIST_LIKE, 25, 2, chance_of(0))
    assert kinds(parts, MNIST_LIKE) == [2] * 25
    holders = np.bincount(np.concatenate([np.unique(MNIST_LIKE[part]) for part in parts]))
    assert holders.tolist() == [5] * 10


def test_a_small_alpha_gives_devices_of_one_label_and_a_large_one_devices_like_the_data() -> None:
    def largest_part(alpha: float) -> float:
        parts = dirichlet(MNIST_LIKE, 30, alpha, chance_of(3))
        return float(np.mean([np.bincount(MNIST_LIKE[part]).max() / len(part) for part in parts]))

    assert largest_part(1e-6) > 0.8 > largest_part(1) > 0.3 > largest_part(1e4)
    assert largest_part(1e4) < 0.15


@pytest.mark.parametrize("text", ["iid", "dirichlet:0.3", "labels:2"])
def test_the_seed_decides_who_gets_what(text: str) -> None:
    one, again, other = (Partition.parse(text).cut(material(MNIST_LIKE), 20, seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, again))
    assert not all(map(np.array_equal, one, other))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "iid:3",
        "dirichlet",
        "dirichlet:0",
        "dirichlet:-1",
        "dirichlet:nan",
        "dirichlet:inf",
        "labels:0",
        "labels:two",
        "labels:1.5",
        "column:",
        "shards:2",
    ],
)
def test_what_is_no_partition_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write iid, dirichlet:ALPHA"):
        Partition.parse(text)


def test_more_devices_than_examples_are_refused() -> None:
    with pytest.raises(DataError, match="2 of 5 devices would have no example"):
        Partition.parse("iid").cut(material(MNIST_LIKE[:3]), 5, 0)


def test_more_devices_than_a_column_has_values_are_refused() -> None:
    with pytest.raises(DataError, match="the column has 2 values, too few for 3 devices"):
        by_column(np.array(["ann", "bob", "ann"]), 3)


@pytest.mark.parametrize("text", ["dirichlet:0.3", "labels:2"])
def test_without_classes_nothing_is_cut_by_label(text: str) -> None:
    with pytest.raises(ConfigError, match="the task has no classes"):
        Partition.parse(text).cut(Material(10, None), 2, 0)


def test_labels_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(DataError, match="give each from 4 to 10"):
        Partition.parse("labels:2").cut(material(MNIST_LIKE), 3, 0)
