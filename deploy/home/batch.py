"""Many devices at once: numbered, or from a CSV file."""

import csv
import io
from collections.abc import Iterator, Mapping
from itertools import count as count_from
from itertools import islice
from pathlib import Path

from deploy.home.home import Home
from host.errors import ConfigError

MAX_FILE_BYTES = 4 << 20
ID, TAGS = "id", "tags"
# Of the machine: for midge flash, and no setting.
HOSTNAME = "hostname"


def numbered(home: Home, prefix: str, count: int) -> list[str]:
    """The next ids of a series that have no bundle yet, such as pi-1, pi-2."""
    ids = (f"{prefix}{number}" for number in count_from(1))
    return list(islice((id_ for id_ in ids if not (home.devices / id_).exists()), count))


def read_batch(path: Path) -> Mapping[str, Mapping[str, object]]:
    """Devices by id, with their settings by dotted key; raises ConfigError, with the line.

    The first line has the columns: `id`; `tags`, words with blanks between; `hostname`, which is passed over;
    others are settings. An empty cell leaves a setting as it is by default.
    """
    return {device: _settings(row) for device, row in read_rows(path).items()}


def read_rows(path: Path) -> Mapping[str, Mapping[str, str]]:
    """The cells of each device by column, those that are not empty; raises ConfigError, with the line."""
    rows = csv.DictReader(io.StringIO(_text(path)), strict=True)
    if ID not in (rows.fieldnames or ()):
        raise ConfigError(f"{path}: the first line must name the columns, and {ID} among them")
    devices: dict[str, Mapping[str, str]] = {}
    for line, row in _numbered_rows(rows, path):
        device = row.pop(ID).strip()
        if device in devices:
            raise ConfigError(f"{path}:{line}: device {device} is there twice")
        devices[device] = {key.strip(): cell.strip() for key, cell in row.items() if cell.strip()}
    if not devices:
        raise ConfigError(f"{path}: no devices are in it")
    return devices


def _numbered_rows(rows: "csv.DictReader[str]", path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        for row in rows:
            if None in row or None in row.values():
                raise ConfigError(f"{path}:{rows.line_num}: has not as many cells as the first line")
            yield rows.line_num, row
    except csv.Error as error:
        raise ConfigError(f"{path}:{rows.line_num}: is no CSV: {error}") from None


def _settings(row: Mapping[str, str]) -> Mapping[str, object]:
    return {key: cell.split() if key == TAGS else cell for key, cell in row.items() if key != HOSTNAME}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES} bytes; give it in parts")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8: {error}") from None
