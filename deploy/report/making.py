"""Writes reports: ledger and run folder in, files out."""

import re
import sqlite3
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from deploy.report.comparing import Compared
from deploy.report.facts import Facts
from deploy.report.gather import gather, round_facts, run_facts
from deploy.report.page import page, write_pictures
from deploy.report.runfiles import RunFiles, read_run_files
from deploy.report.source import read_ledger
from host.errors import DataError
from host.files import write_atomic

# What no HTML page may have in it, and a detail of a device's may.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def make_report(folder: Path, run: str, output: Path, pictures: Path | None = None) -> list[Path]:
    """Write a report about a run of the aggregator with this folder, and its pictures; where they are.

    Raises ConfigError, DataError, StorageError.
    """
    facts = read_ledger(folder, lambda connection: gather(connection, run))
    files = read_run_files(folder / "runs" / run)
    _write(output, page(facts, files, _version()))
    return [output, *(_write_pictures(facts, files, pictures) if pictures is not None else [])]


def read_compared(folder: Path, runs: Sequence[str]) -> list[Compared]:
    """Read runs of one aggregator, in this order; raises ConfigError, StorageError."""

    def read(connection: sqlite3.Connection, run: str) -> Compared:
        about = run_facts(connection, run)
        versions = read_run_files(folder / "runs" / run).table("versions")
        seconds = (about.ended_unix_s or time.time()) - about.started_unix_s
        return Compared(about, round_facts(connection, run), versions, seconds)

    return read_ledger(folder, lambda connection: [read(connection, run) for run in runs])


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text).encode("utf-8", "replace"))
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
