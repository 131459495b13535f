"""Which devices' cards are written: one bundle, or a row each of a CSV file."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.card.contents import Device, read_bundle
from host.errors import ConfigError

ID, HOSTNAME = "id", "hostname"
MAX_ROWS = 10_000


@dataclass(frozen=True)
class Row:
    """A device, and what its machine is called."""

    device: Device
    hostname: str


def one(bundle: Path, hostname: str | None) -> Row:
    """The device of one bundle; raises ConfigError."""
    device = read_bundle(bundle)
    return Row(device, hostname or device.id)


def listed(file: Path, bundles: Path) -> list[Row]:
    """The devices of a CSV file, `id` and maybe `hostname`, whose bundles lie in BUNDLES/<id>.

    All are read before the first card is written. Raises ConfigError.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(_rows(file, lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    if not rows:
        raise ConfigError(f"{file} lists no device")
    ids = [name for name, _ in rows]
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise ConfigError(f"{file} lists {min(twice)} twice: two cards with one id would fight")
    return [Row(_named(bundles / name, name), hostname or name) for name, hostname in rows]


def _named(bundle: Path, name: str) -> Device:
    device = read_bundle(bundle)
    if device.id != name:
        raise ConfigError(
            f"{bundle} is the bundle of {device.id}, not of {name}: two cards would have one id"
        )
    return device


def _rows(file: Path, lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    table = csv.DictReader(lines)
    if ID not in (table.fieldnames or ()):
        raise ConfigError(f"{file}: its first line names columns, and there is no {ID}")
    for number, row in enumerate(table, start=2):
        name = (row[ID] or "").strip()
        if not name or "/" in name or name.startswith("."):
            raise ConfigError(f"{file}, line {number}: {name!r} is no device's id")
        if number > MAX_ROWS:
            raise ConfigError(f"{file} has more than {MAX_ROWS} lines: split it")
        yield name, (row.get(HOSTNAME) or "").strip()
