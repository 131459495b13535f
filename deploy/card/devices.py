"""Which devices' cards are written: one bundle, or a row each of a CSV file."""

import re
from dataclasses import dataclass
from pathlib import Path

from broker.names import ID_PATTERN
from deploy.card.contents import Device, read_bundle
from deploy.home.batch import HOSTNAME, read_rows
from host.errors import ConfigError


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
    """The devices of a CSV file as midge enroll reads it, whose bundles lie in BUNDLES/<id>.

    All are read before the first card is written. Raises ConfigError.
    """
    rows = read_rows(file)
    if wrong := [name for name in rows if not re.match(ID_PATTERN, name)]:
        raise ConfigError(f"{file}: {wrong[0]!r} is no device's id")
    return [Row(_named(bundles / name, name), cells.get(HOSTNAME, name)) for name, cells in rows.items()]


def _named(bundle: Path, name: str) -> Device:
    device = read_bundle(bundle)
    if device.id != name:
        raise ConfigError(
            f"{bundle} is the bundle of {device.id}, not of {name}: two cards would have one id"
        )
    return device
