"""Data as an agent's settings describe it, cut among devices: a file for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel

from broker.contract import DataContract
from deploy.demo.shares import write_examples
from deploy.simulator.training.partition import Material, Partition, Rows
from edge_agent.data import npz, table
from edge_agent.data.counts import label_counts
from edge_agent.data.examples import Examples
from edge_agent.data.kind import header, source_of
from edge_agent.data.settings import CsvSettings, DataSettings, NpzSettings
from edge_agent.data.source import load
from host.errors import ConfigError, DataError
from host.settings import load_settings

MAX_DEVICES = 4096
COLOURS = 3


class _DataFile(BaseModel):
    """A settings file of which only the table [data] is read, such as an agent's."""

    data: DataSettings


@dataclass(frozen=True)
class Source:
    """All examples that there are, before they are cut."""

    path: Path
    target: str | None = None
    """Column of a CSV file; None: the last one."""

    def settings(self, contract: DataContract, column: str | None) -> DataSettings:
        """Where the examples lie; a `column` to cut by is none of a CSV file's inputs.

        Raises ConfigError, DataError.
        """
        if self.path.suffix == ".toml":
            found: DataSettings = load_settings(_DataFile, self.path, {}, {}).data
        else:
            found = source_of(self.path, colour=contract.shape[2:] == (COLOURS,), target=self.target)
        if self.target is not None and not isinstance(found, CsvSettings):
            raise ConfigError(f"--target {self.target}: {found.path} is no CSV file, and has no columns")
        if isinstance(found, CsvSettings) and found.columns is None and column is not None:
            inputs = tuple(
                name for name in header(found.path, found.delimiter) if name not in (found.target, column)
            )
            return found.model_copy(update={"columns": inputs or None})
        return found


@dataclass(frozen=True)
class Share:
    """One device's part."""

    device: str
    data: NpzSettings
    examples: int
    labels: dict[str, int]
    """How many examples each class has; empty without classes."""


class Shares:
    """Examples in memory, which each seed cuts among the devices in its own way."""

    def __init__(
        self, source: Source, partition: Partition, devices: int | None, contract: DataContract
    ) -> None:
        """Read the data; raises ConfigError, DataError."""
        settings = source.settings(contract, partition.column)
        values = None if partition.column is None else _values(settings, partition.column)
        self._examples = load(settings, contract)
        self._classes = contract.classes
        self._partition, self._devices = partition, devices
        labels = None if contract.classes is None else self._examples.y
        self._material = Material(len(self._examples.x), labels, values)

    def write(self, seed: int, folder: Path) -> list[Share]:
        """Cut the examples, and write each part as `<folder>/<device>.npz`; raises ConfigError, DataError."""
        parts = self._partition.cut(self._material, self._devices, seed)
        if len(parts) > MAX_DEVICES:
            raise DataError(f"{len(parts)} devices: at most {MAX_DEVICES} can be in a federation")
        folder.mkdir(parents=True, exist_ok=True)
        return [self._write(name_of(number), rows, folder) for number, rows in enumerate(parts, 1)]

    def _write(self, device: str, rows: Rows, folder: Path) -> Share:
        part = Examples(self._examples.x[rows], self._examples.y[rows])
        path = folder / f"{device}.npz"
        write_examples(path, part)
        return Share(device, NpzSettings(path=path), len(rows), _count(part.y, self._classes))


def name_of(number: int) -> str:
    """The id of the device with this number, from 1: its seeds follow from it."""
    return f"pi-{number}"


def _count(labels: NDArray[Any], classes: Sequence[str] | None) -> dict[str, int]:
    if classes is None:
        return {}
    return {classes[int(index)]: count for index, count in label_counts(labels).items()}


def _values(settings: DataSettings, column: str) -> NDArray[Any]:
    """The column to cut by: texts of a CSV file, or an array of an .npz file."""
    match settings:
        case CsvSettings():
            return table.read(settings.model_copy(update={"target": column})).y
        case NpzSettings():
            values = npz.read(settings.model_copy(update={"x": column, "y": column})).x
            if values.ndim == 1:
                return values
            raise DataError(f"{settings.path}: array {column!r} has {values.ndim} dimensions, not one")
    raise ConfigError(f"--partition column:{column}: {settings.path} has no columns; a .csv or .npz file has")
