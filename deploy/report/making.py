"""Writes reports: ledger and run folder in, files out."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from deploy.report.facts import Facts
from deploy.report.gather import gather
from deploy.report.page import page, write_pictures
from deploy.report.runfiles import RunFiles, read_run_files
from deploy.report.source import read_ledger
from host.errors import DataError
from host.files import write_atomic


def make_report(folder: Path, run: str, output: Path, pictures: Path | None = None) -> list[Path]:
    """Write a report about a run of the aggregator with this folder, and its pictures; where they are.

    Raises ConfigError, DataError, StorageError.
    """
    facts = read_ledger(folder, lambda connection: gather(connection, run))
    files = read_run_files(folder / "runs" / run)
    _write(output, page(facts, files, _version()))
    return [output, *(_write_pictures(facts, files, pictures) if pictures is not None else [])]


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text.encode("utf-8", "replace"))
    except OSError as error:
        raise DataError(f"{path}: the report cannot be written: {error.strerror}") from None


def _write_pictures(facts: Facts, files: RunFiles, folder: Path) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made: {error.strerror}") from None
    return write_pictures(facts, files, folder)


def _version() -> str:
    try:
        return version("midge")
    except PackageNotFoundError:
        return "from a folder of sources"
