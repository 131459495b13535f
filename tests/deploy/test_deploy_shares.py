from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.demo.lessons import digits, mnist
from deploy.demo.shares import LACKING, share_out, spell
from edge_agent.data.examples import Examples
from host.errors import ConfigError, DataError

MNIST = Path(__file__).parents[2].parent / "shared/data/mnist"


def pool(examples: int) -> Examples:
    labels = np.arange(examples, dtype=np.int32) % 10
    # Every example is told apart by its one value.
    return Examples(np.arange(examples, dtype=np.float32).reshape(-1, 1), labels)


@settings(max_examples=20, deadline=None)
@given(devices=st.integers(1, 26), seed=st.integers(0, 1000))
def test_each_example_lies_on_one_device_and_never_where_its_digit_is_lacking(
    tmp_path_factory: pytest.TempPathFactory, devices: int, seed: int
) -> None:
    shares = share_out(pool(1300), devices, seed, tmp_path_factory.mktemp("shares"))
    seen: list[float] = []
    for index, share in enumerate(shares):
        with np.load(share.path) as file:
            x, y = file["x"], file["y"]
        assert len(x) == len(y) == share.examples
        assert share.lacking == LACKING[index % 3]
        assert not set(y.tolist()) & set(share.lacking)
        seen += x.ravel().tolist()
    assert len(shares) == devices
    assert len(seen) == len(set(seen))


def test_the_seed_decides_who_gets_what(tmp_path: Path) -> None:
    def first(seed: int, name: str) -> bytes:
        with np.load(share_out(pool(300), 3, seed, tmp_path / name)[0].path) as file:
            return bytes(file["x"].tobytes())

    assert first(1, "one") == first(1, "again")
    assert first(1, "one") != first(2, "other")


@pytest.mark.parametrize("devices", [0, 27])
def test_a_number_of_devices_that_cannot_be_shown_is_refused(tmp_path: Path, devices: int) -> None:
    with pytest.raises(ConfigError, match=f"--devices {devices}: from 1 to 26"):
        share_out(pool(300), devices, 0, tmp_path)


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="take fewer devices"):
        share_out(pool(3), 5, 0, tmp_path)


def test_the_digits_held_out_are_a_quarter_of_each_and_on_no_device() -> None:
    held = digits().pool(3)
    assert len(held.test.y) == 450
    assert len(held.training.y) == 1797 - 450
    assert held.training.x.dtype == np.uint8
    assert held.training.x.max() == 255
    assert np.bincount(held.test.y).min() >= 43
    again = digits().pool(3)
    np.testing.assert_array_equal(held.test.x, again.test.x)


@pytest.mark.skipif(not MNIST.is_dir(), reason="MNIST's files are not here")
def test_mnist_is_read_from_its_idx_files() -> None:
    read = mnist(MNIST).pool(0)
    assert read.training.x.shape == (60000, 28, 28)
    assert read.test.x.shape == (10000, 28, 28)


def test_a_folder_without_mnist_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images"):
        mnist(tmp_path).pool(0)


def test_digits_are_spelled_as_people_list_them() -> None:
    assert spell((1, 3, 7)) == "1, 3, 7"


def test_every_lesson_has_its_task_file() -> None:
    for lesson in (digits(), mnist(MNIST)):
        assert "def build_model" in lesson.task.read_text()
