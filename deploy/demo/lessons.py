"""What the demo can teach: a task, its examples, and settings that get there in a few rounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from broker.contract import DataContract
from broker.control import SettingValue
from edge_agent.data.examples import Examples
from edge_agent.data.settings import IdxSettings
from edge_agent.data.source import load
from host.errors import ConfigError

TASKS = Path(__file__).parent / "tasks"
TEST_FRACTION = 0.25


class Pool(NamedTuple):
    """All examples: those that devices share, and those that no device sees."""

    training: Examples
    test: Examples


@dataclass(frozen=True)
class Lesson:
    """A task to show: `pool` reads its examples, given a seed, and raises DataError or ConfigError."""

    name: str
    rounds: int
    settings: Mapping[str, SettingValue]
    pool: Callable[[int], Pool]

    @property
    def task(self) -> Path:
        """The task file, the same as in examples/, which an installed midge does not have."""
        return TASKS / f"{self.name.replace('-', '_')}.task"


def digits() -> Lesson:
    """Show the 1797 digits that come with scikit-learn; a device has about three hundred of them."""
    settings: Mapping[str, SettingValue] = {"runtime": "litert", "epochs": 3, "batch_size": 32}
    return Lesson("digits", rounds=20, settings=settings, pool=_digits)


def mnist(folder: Path) -> Lesson:
    """Show MNIST, from its four IDX files: few rounds of long local training, on all that a device has."""
    settings: Mapping[str, SettingValue] = {
        "runtime": "litert",
        "epochs": 10,
        "batch_size": 64,
        "validation_fraction": 0.0,
        "federated_evaluation": False,
    }
    return Lesson("digits-missing", rounds=3, settings=settings, pool=lambda _seed: _mnist(folder))


def _digits(seed: int) -> Pool:
    """Images uint8[n, 8, 8]; a quarter, with every digit in its proportion, is held out."""
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415  an extra, and slow to import
        from sklearn.model_selection import train_test_split  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError(
            "the demo's digits come with scikit-learn: pip install 'midge[demo]', or give --data"
        ) from None
    bunch = load_digits()
    # Its fields count 0 to 16 dark dots; images elsewhere go from 0 to 255.
    x = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    y = bunch.target.astype(np.int32)
    parts = train_test_split(x, y, test_size=TEST_FRACTION, stratify=y, random_state=seed)
    return Pool(Examples(parts[0], parts[2]), Examples(parts[1], parts[3]))


def _mnist(folder: Path) -> Pool:
    """Images uint8[n, 28, 28]: 60000 to train on, 10000 to test."""
    contract = DataContract(shape=(28, 28), dtype="uint8", classes=tuple(map(str, range(10))))
    test = IdxSettings(path=folder, images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte")
    return Pool(load(IdxSettings(path=folder), contract), load(test, contract))
