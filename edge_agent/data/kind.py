"""What kind of data lies at a path, for people who name no more than that."""

import csv
from pathlib import Path

from edge_agent.data.settings import (
    CsvSettings,
    DataSettings,
    IdxSettings,
    ImageFolderSettings,
    NpzSettings,
)
from host.errors import DataError


def source_of(path: Path, *, colour: bool, target: str | None = None) -> DataSettings:
    """Tell a data source's kind by what lies at `path`; raises DataError when that is nothing known."""
    if not path.exists():
        raise DataError(f"{path}: there is nothing; give the path of a file or folder with examples")
    if path.suffix == ".npz":
        return NpzSettings(path=path)
    if path.suffix == ".csv":
        return CsvSettings(path=path, target=target or header(path)[-1])
    if any(path.glob("*-ubyte*")):
        return IdxSettings(path=path)
    if path.is_dir():
        return ImageFolderSettings(path=path, mode="RGB" if colour else "L")
    raise DataError(
        f"{path}: is no .npz or .csv file, no folder of IDX files and no folder of images; give one of these"
    )


def header(path: Path, delimiter: str = ",") -> list[str]:
    """Names of a CSV file's columns; raises DataError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader([file.readline(1 << 16)], delimiter=delimiter), [""])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: its header cannot be read: {error}") from None
