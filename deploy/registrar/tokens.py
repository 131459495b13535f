"""The registrar's own register, in SQLite: tokens that may enrol a device, and what was answered last.

Of a token it keeps the public half, of a certificate what everybody may see: who reads it can enrol nobody.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.enrolment import Token
from broker.names import ID_PATTERN, RESERVED_IDS
from host.errors import ConfigError, StorageError

LOCK_TIMEOUT_S = 30.0
# Expired and used ones are kept for so long, to say what became of them.
KEPT_S = 365 * 86_400.0
SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS tokens (
    id TEXT PRIMARY KEY, device TEXT NOT NULL, public_key TEXT NOT NULL, made_unix_s REAL NOT NULL,
    expires_unix_s REAL NOT NULL, withdrawn INTEGER NOT NULL DEFAULT 0, claimed_by TEXT, chain BLOB
) STRICT;
CREATE INDEX IF NOT EXISTS tokens_device ON tokens (device);
CREATE TABLE IF NOT EXISTS renewals (
    device TEXT PRIMARY KEY, claimed_by TEXT NOT NULL, chain BLOB NOT NULL
) STRICT;
"""
COLUMNS = "id, device, public_key, made_unix_s, expires_unix_s, withdrawn, claimed_by, chain"


@dataclass(frozen=True)
class TokenRow:
    """What is known of a token; `claimed_by` is the digest of the one key that it serves."""

    id: str
    device: str
    public_key: str
    made_unix_s: float
    expires_unix_s: float
    withdrawn: bool = False
    claimed_by: str | None = None
    chain: bytes | None = None

    def may_enrol(self, now: float) -> bool:
        """Whether somebody may still come with it: for the first time, or for an answer that was lost."""
        return not self.withdrawn and (self.claimed_by is not None or now < self.expires_unix_s)

    def is_open(self, now: float) -> bool:
        """Whether it is still to be used."""
        return self.chain is None and self.may_enrol(now)


@dataclass(frozen=True)
class Renewed:
    """The last certificate that a device was given in place of another, and for which key."""

    claimed_by: str
    chain: bytes


class Tokens:
    """One file, which `midge enroll` writes to while the registrar works; raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._transaction() as database:
            database.executescript(SCHEMA)

    def make(self, device: str, lifetime_s: float, now: float) -> Token:
        """Make a token for a device, good for `lifetime_s` from `now` on, in unix seconds.

        Those of the device that were not used yet are withdrawn. Raises ConfigError for what is no id.
        """
        if not re.fullmatch(ID_PATTERN[1:-1], device) or device in RESERVED_IDS:
            raise ConfigError(
                f"{device!r} cannot be a device's id: take lower-case letters, digits and hyphens, "
                "32 at most, and no role's name"
            )
        token = Token.new()
        with self._transaction() as database:
            _withdraw(database, device)
            database.execute("DELETE FROM tokens WHERE expires_unix_s < ?", (now - KEPT_S,))
            database.execute(
                "INSERT INTO tokens (id, device, public_key, made_unix_s, expires_unix_s)"
                " VALUES (?, ?, ?, ?, ?)",
                (token.id, device, token.public_key, now, now + lifetime_s),
            )
        return token

    def withdraw(self, device: str) -> int:
        """Have no open token of a device enrol it any more; how many there were."""
        with self._transaction() as database:
            return _withdraw(database, device)

    def find(self, token: str) -> TokenRow | None:
        """What is known of a token."""
        with self._transaction() as database:
            row = database.execute(f"SELECT {COLUMNS} FROM tokens WHERE id = ?", (token,)).fetchone()  # noqa: S608
        return row and _row(*row)

    def all(self) -> list[TokenRow]:
        """Every token, the oldest first."""
        with self._transaction() as database:
            rows = database.execute(f"SELECT {COLUMNS} FROM tokens ORDER BY made_unix_s, rowid").fetchall()  # noqa: S608
        return [_row(*row) for row in rows]

    def claim(self, token: str, key: str) -> None:
        """Mark a token used, for this key alone; raises StorageError when it is another's."""
        with self._transaction() as database:
            changed = database.execute(
                "UPDATE tokens SET claimed_by = ?"
                " WHERE id = ? AND NOT withdrawn AND coalesce(claimed_by, ?) = ?",
                (key, token, key, key),
            ).rowcount
        if changed != 1:
            raise StorageError(f"token {token} was claimed or withdrawn meanwhile")

    def keep_enrolment(self, token: str, chain: bytes) -> None:
        """Keep what a token was answered, to give it again; raises StorageError if it was withdrawn."""
        with self._transaction() as database:
            kept = database.execute(
                "UPDATE tokens SET chain = ? WHERE id = ? AND NOT withdrawn", (chain, token)
            ).rowcount
        if kept != 1:
            raise StorageError(f"token {token} was withdrawn meanwhile")

    def renewed(self, device: str) -> Renewed | None:
        """What a device was answered last when it renewed."""
        with self._transaction() as database:
            row = database.execute(
                "SELECT claimed_by, chain FROM renewals WHERE device = ?", (device,)
            ).fetchone()
        return row and Renewed(*row)

    def keep_renewal(self, device: str, key: str, chain: bytes) -> None:
        """Keep what a device was answered, in place of what it was answered before."""
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO renewals (device, claimed_by, chain) VALUES (?, ?, ?)",
                (device, key, chain),
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=LOCK_TIMEOUT_S)) as database, database:
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except sqlite3.Error as error:
            raise StorageError(
                f"register of tokens {self._path} cannot be used: {error}; free some space, or restore it"
            ) from error


def _withdraw(database: sqlite3.Connection, device: str) -> int:
    open_ones = "device = ? AND NOT withdrawn AND chain IS NULL"
    return database.execute(f"UPDATE tokens SET withdrawn = 1 WHERE {open_ones}", (device,)).rowcount  # noqa: S608


def _row(
    token: str,
    device: str,
    public_key: str,
    made_unix_s: float,
    expires_unix_s: float,
    withdrawn: int,
    claimed_by: str | None,
    chain: bytes | None,
) -> TokenRow:
    return TokenRow(
        token, device, public_key, made_unix_s, expires_unix_s, bool(withdrawn), claimed_by, chain
    )
