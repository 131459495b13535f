"""The register: a row for every certificate that an authority issued, in SQLite."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from host.errors import StorageError

LOCK_TIMEOUT_S = 30.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS certificates (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,
    not_before TEXT NOT NULL, not_after TEXT NOT NULL, issued_at TEXT NOT NULL, revoked_at TEXT,
    issuer TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS certificates_name ON certificates (name);
"""


@dataclass(frozen=True)
class Issued:
    """One certificate; times are in UTC, `serial` is in hexadecimal digits without leading zeros."""

    serial: str
    name: str
    role: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    revoked_at: datetime | None = None
    issuer: str = ""
    """The intermediate that signed it, by its certificate's serial number, empty for those of long ago."""


COLUMNS = ", ".join(field.name for field in fields(Issued))
INTO = f"INTO certificates ({COLUMNS}) VALUES ({', '.join('?' * len(fields(Issued)))})"


class Register:
    """All certificates of one authority; a command and the registrar may use it at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._transaction() as database:
            database.executescript(SCHEMA)
            if "issuer" not in {row[1] for row in database.execute("PRAGMA table_info(certificates)")}:
                database.execute("ALTER TABLE certificates ADD COLUMN issuer TEXT NOT NULL DEFAULT ''")

    def add(self, issued: Issued) -> None:
        """Keep a certificate, before it is handed out."""
        with self._transaction() as database:
            database.execute(f"INSERT {INTO}", [_text(value) for value in astuple(issued)])

    def all(self) -> list[Issued]:
        """Every certificate, in the order of issue."""
        return self._rows("ORDER BY issued_at, rowid")

    def of(self, name: str) -> list[Issued]:
        """The certificates of this name, revoked and expired ones too, in the order of issue."""
        return self._rows("WHERE name = ? ORDER BY issued_at, rowid", name)

    def revoke(self, name_or_serial: str, when: datetime) -> list[Issued]:
        """Revoke all that are of this name or serial number; return those that were not revoked before."""
        where = "(name = ? OR serial = ?) AND revoked_at IS NULL"
        with self._transaction() as database:
            found = _read(database, f"WHERE {where}", name_or_serial, name_or_serial)
            database.execute(
                f"UPDATE certificates SET revoked_at = ? WHERE {where}",  # noqa: S608
                (when.isoformat(), name_or_serial, name_or_serial),
            )
        return found

    def restore(self, revoked: Mapping[str, datetime]) -> None:
        """Have these serial numbers be revoked, also those that it knows nothing else of."""
        with self._transaction() as database:
            for serial, when in revoked.items():
                unknown = Issued(serial, "", "", when, when, when)
                database.execute(f"INSERT OR IGNORE {INTO}", [_text(value) for value in astuple(unknown)])
                database.execute(
                    "UPDATE certificates SET revoked_at = ? WHERE serial = ? AND revoked_at IS NULL",
                    (when.isoformat(), serial),
                )

    def _rows(self, condition: str, *values: str) -> list[Issued]:
        with self._transaction() as database:
            return _read(database, condition, *values)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=LOCK_TIMEOUT_S)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise StorageError(
                f"register {self._path} cannot be used: {error}; restore it from a backup"
            ) from None


def _read(database: sqlite3.Connection, condition: str, *values: str) -> list[Issued]:
    rows = database.execute(f"SELECT {COLUMNS} FROM certificates {condition}", values)  # noqa: S608
    return [_issued(*row) for row in rows]


def _issued(serial: str, name: str, role: str, *rest: str | None) -> Issued:
    not_before, not_after, issued_at = (datetime.fromisoformat(time) for time in rest[:3] if time)
    revoked, issuer = rest[3:]
    return Issued(
        serial,
        name,
        role,
        not_before,
        not_after,
        issued_at,
        datetime.fromisoformat(revoked).astimezone(UTC) if revoked else None,
        issuer or "",
    )


def _text(value: object) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat()
    return None if value is None else str(value)
