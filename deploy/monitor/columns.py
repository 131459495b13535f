"""What the table says of a device: cells, and what rows are sorted by; pure."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from broker.monitor import DeviceDocument
from deploy.viewing.devices import STYLES, is_hot, remark
from deploy.viewing.words import bar, degrees, duration, percent, rate, sparkline

BAR_WIDTH = 8
SPARK_WIDTH = 8
LOW = 0.2
WARNED = "bold red"


class Row(NamedTuple):
    """A device, for how many seconds it stands like that, and its losses by round."""

    device: DeviceDocument
    age_s: float
    losses: Sequence[float]

    @property
    def due_s(self) -> float | None:
        """Seconds until its update is due."""
        left = self.device.seconds_left
        return None if left is None else left - self.age_s


class Cell(NamedTuple):
    """What stands there, and how."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column: a cell, what rows are sorted by (None comes last), and on which side text stands."""

    name: str
    width: int
    cell: Callable[[Row], Cell]
    key: Callable[[Row], float | str | None]
    right: bool = False


def last_loss(row: Row) -> float | None:
    """The newest loss that is known of a device."""
    return row.device.loss if row.device.loss is not None else (row.losses[-1] if row.losses else None)


def _state(row: Row) -> Cell:
    return Cell(row.device.state, STYLES.get(row.device.state, ""))


def _done(row: Row) -> Cell:
    return Cell(bar(row.device.progress, BAR_WIDTH) if row.device.state == "training" else "", "cyan")


def _most_done(row: Row) -> float | None:
    return -row.device.progress if row.device.state == "training" else None


def _temperature(row: Row) -> Cell:
    return Cell(degrees(row.device.temperature_c), WARNED if is_hot(row.device) else "")


def _battery(row: Row) -> Cell:
    charge = row.device.battery
    return Cell(percent(charge), WARNED if charge is not None and charge < LOW else "")


def _least(value: float | None) -> float | None:
    """Largest first."""
    return None if value is None else -value


COLUMNS = (
    Column("device", 12, lambda row: Cell(row.device.device), lambda row: row.device.device),
    Column("state", 10, _state, lambda row: row.device.state),
    Column("progress", BAR_WIDTH, _done, _most_done),
    Column(
        "rate",
        6,
        lambda row: Cell(rate(row.device.examples_per_s)),
        lambda row: _least(row.device.examples_per_s),
        right=True,
    ),
    Column("due", 6, lambda row: Cell(duration(row.due_s)), lambda row: row.due_s, right=True),
    Column("temp", 5, _temperature, lambda row: _least(row.device.temperature_c), right=True),
    Column("battery", 7, _battery, lambda row: row.device.battery, right=True),
    Column(
        "loss",
        SPARK_WIDTH,
        lambda row: Cell(sparkline(row.losses, SPARK_WIDTH)),
        lambda row: _least(last_loss(row)),
    ),
    Column(
        "counted",
        7,
        lambda row: Cell(f"{row.device.accepted}/{row.device.asked}"),
        lambda row: row.device.reliability,
        right=True,
    ),
    Column("remarks", 60, lambda row: Cell(remark(row.device)), lambda row: remark(row.device) or None),
)
DUE = next(index for index, column in enumerate(COLUMNS) if column.name == "due")


def cells(row: Row) -> tuple[Cell, ...]:
    """A row of the table."""
    return tuple(column.cell(row) for column in COLUMNS)


def ordered(rows: Sequence[Row], column: Column, *, reverse: bool) -> list[str]:
    """Devices by a column, and by name where that says nothing; what is unknown comes last both ways."""
    known = [(key, row) for row in rows if (key := column.key(row)) is not None]
    unknown = [row.device.device for row in rows if column.key(row) is None]
    known.sort(key=lambda pair: pair[1].device.device)
    known.sort(key=lambda pair: pair[0], reverse=reverse)
    return [row.device.device for _, row in known] + sorted(unknown)
