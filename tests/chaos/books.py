"""The books of a federation as they lie on the disk: ledger, spool, and what devices logged."""

import contextlib
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from host.files import file_digest

RECEIPT = re.compile(r"update of round (\d+): (\w+)(?: \((.*)\))?$", re.MULTILINE)
LOUD = re.compile(r"^\S+ (?:ERROR|CRITICAL) .*$|^\w+Error: .*$", re.MULTILINE)
SPOOLED_IN = {"training", "aggregating"}


class Receipt(NamedTuple):
    """A final answer that a device has logged."""

    device: str
    round: int
    outcome: str
    reason: str


def receipts(device: str, log: str) -> list[Receipt]:
    """Every answer in a device's log; the same one twice where a crash kept the device from letting go."""
    return [Receipt(device, int(number), outcome, reason) for number, outcome, reason in RECEIPT.findall(log)]


def rows(ledger: Path, query: str, *values: object) -> list[dict[str, Any]]:
    """Read a living ledger; raises sqlite3.OperationalError while it cannot be read."""
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, values)]


def unspooled(folder: Path) -> list[str]:
    """What a dead aggregator counts and has not in its spool, while the round that needs it is open.

    Reads a copy: to open the ledger itself would do a part of the recovery that is to be tried.
    """
    with _copied(folder / "ledger.sqlite") as ledger:
        # One that was killed in its first second has no ledger yet, or an empty one.
        if not rows(ledger, "SELECT 1 FROM sqlite_master WHERE name = 'transitions'"):
            return []
        last = rows(ledger, "SELECT run, round, target FROM transitions ORDER BY id DESC LIMIT 1")
        if not last or last[0]["target"] not in SPOOLED_IN:
            return []
        run, number = last[0]["run"], last[0]["round"]
        counted = rows(ledger, "SELECT device, digest FROM updates WHERE run = ? AND round = ?", run, number)
    spool = folder / "spool" / run / str(number)
    return [
        f"{run} round {number}: the accepted update of {row['device']} was not in the spool after a kill"
        for row in counted
        if not _holds(spool / f"{row['device']}.update", row["digest"])
    ]


def unanswered(state_folder: Path) -> str:
    """What keeps a device from being done; empty when it has let go of its update."""
    state = state_folder / "state.json"
    pending = json.loads(state.read_text())["pending"] if state.exists() else None
    if pending is not None:
        return f"still offers its update of {pending['run']} round {pending['round']}"
    left = [path.name for path in state_folder.glob("update-*.update")]
    return f"kept {', '.join(left)}, which nobody wants" if left else ""


def _holds(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


@contextlib.contextmanager
def _copied(ledger: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="midge-chaos-") as folder:
        for path in (ledger, ledger.with_name(f"{ledger.name}-wal")):
            if path.exists():
                shutil.copy(path, folder)
        copy = Path(folder) / ledger.name
        copy.touch()
        yield copy
