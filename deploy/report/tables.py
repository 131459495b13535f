"""Rows of a ledger that may be older than some of its tables."""

import sqlite3
from collections.abc import Iterator


def rows(connection: sqlite3.Connection, table: str, statement: str, *values: object) -> Iterator[sqlite3.Row]:
    """Rows of a statement about a table; none where an older midge wrote the ledger, which cannot have any."""
    known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if connection.execute(known, (table,)).fetchone() is not None:
        yield from connection.execute(statement, values)
