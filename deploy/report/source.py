"""An aggregator's ledger, opened to read: nothing in its folder is written, whether it runs or not."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from aggregator.ledger_schema import VERSION
from host.errors import ConfigError, StorageError

LEDGER = "ledger.sqlite"
BUSY_S = 5.0
ATTEMPTS = 5
PAUSE_S = 0.2

T = TypeVar("T")


def read_ledger(folder: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """What `work` finds in the ledger of an aggregator's folder, all as of one moment.

    `work` may be called again, when an aggregator starts or ends meanwhile. Raises ConfigError where there is
    no ledger that this midge can read, and StorageError.
    """
    path = folder / LEDGER
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; name the aggregator's folder with --folder")
    fault = "it changes all the time"
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE_S if attempt else 0)
        try:
            return _attempt(path, work)
        except _ChangedError:
            continue
        except (sqlite3.Error, OSError) as error:
            fault = str(error)
    raise StorageError(
        f"ledger {path} cannot be read: {fault}; read it as the user who runs the aggregator, "
        "and see that the disk is in order"
    )


class _ChangedError(Exception):
    pass


def _attempt(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    log, before = path.with_name(f"{path.name}-wal"), _age(path)
    if not log.exists():
        # Any other way of opening would leave files of our own beside it: https://sqlite.org/wal.html#readonly
        with _connected(path, "immutable=1") as connection:
            found = work(connection)
        if log.exists() or _age(path) != before:
            raise _ChangedError
        return found
    with _readable(path) as readable, _connected(readable, "mode=ro&readonly_shm=1") as connection:
        return work(connection)


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """The ledger itself; its copy where files were saved without the index that belongs to the log."""
    names = [path.name, f"{path.name}-wal"]
    if path.with_name(f"{path.name}-shm").exists():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="midge-ledger-") as folder:
        for name in names:
            shutil.copyfile(path.with_name(name), Path(folder) / name)
        # To open it for writing makes the index.
        sqlite3.connect(Path(folder) / path.name).execute("PRAGMA user_version")
        yield Path(folder) / path.name


@contextmanager
def _connected(path: Path, how: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?{how}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("BEGIN")
        _check_version(path, connection)
        yield connection


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise ConfigError(
            f"{path} was written by a newer midge: it has schema {version}, known are up to {VERSION}; "
            "install that version"
        )


def _age(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_mtime_ns, about.st_size
