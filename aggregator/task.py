"""What every kind of task can do."""

from pathlib import Path
from typing import Protocol

from aggregator.confusion import Counts
from broker.contract import DataContract, Needs
from broker.layout import Layout, Theta
from broker.names import Metrics
from broker.program import Program


class Task(Protocol):
    """A task file at work; at any time it has weights at hand, first those it begins with."""

    @property
    def contract(self) -> DataContract:
        """What it expects of every device's examples."""

    @property
    def needs(self) -> Needs:
        """What it expects of the devices themselves."""

    @property
    def layout(self) -> Layout:
        """The shapes of its weights."""

    @property
    def suffix(self) -> str:
        """The ending of the model files that `save` writes and `read` reads."""

    @property
    def test_examples(self) -> int:
        """How many examples `measure` measures on; 0 when there are none."""

    def export(self, runtime: str, batch: int, /) -> Program:
        """The program for devices; raises ConfigError."""

    def theta(self) -> Theta:
        """The weights at hand: float32[P]."""

    def set_theta(self, theta: Theta) -> None:
        """Take other weights, float32[P]."""

    def save(self, path: Path) -> None:
        """Write a model file with the weights at hand; it is whole or absent."""

    def read(self, path: Path) -> Theta:
        """Weights of a model file, float32[P]; raises ConfigError when they do not fit."""

    def measure(self) -> Metrics | None:
        """How good the weights at hand are, on held-out data; None without such data."""

    def confusion(self) -> Counts | None:
        """What the last `measure` saw taken for what; None where that cannot be told."""
