"""Rows of a ledger that may be older than some of its tables."""

import re
import sqlite3
from collections.abc import Iterator

_TABLE = re.compile(r"\bFROM (\w+)")
_KNOWN = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"


def rows(connection: sqlite3.Connection, statement: str, *values: object) -> Iterator[sqlite3.Row]:
    """Rows of a statement; none where the ledger has not its first table, since an older midge wrote it."""
    table = _TABLE.search(statement)
    assert table is not None
    if connection.execute(_KNOWN, (table[1],)).fetchone() is not None:
        yield from connection.execute(statement, values)
