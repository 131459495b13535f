"""The ledger: what happened and what counts, in SQLite, each step of the coordinator in one transaction."""

import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from aggregator import ledger_schema as schema
from aggregator.ledger_rows import (
    Answer,
    IncidentRow,
    ParticipantRow,
    RoundRow,
    blob_of,
    incident_of,
    participant_of,
    round_of,
    summary_of,
)
from aggregator.records import Invited, Record, RoundOpened
from broker.control import RunSummary
from broker.messages import BlobRef, ReceiptOutcome, RejectReason
from host.errors import ConfigError, NoRoomError, StorageError

log = logging.getLogger(__name__)

# SQLite calls a quota that is used up, or a write that the system refused, an I/O error.
_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR")
_CURES = {
    "SQLITE_FULL": "the disk is full: free some space",
    "SQLITE_IOERR": "the disk refuses: free some space, look at quotas and the disk's health",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a backup, or move it away to begin anew",
    "SQLITE_NOTADB": "the file is damaged or is none of ours: restore it from a backup, or move it away",
    "SQLITE_READONLY": "the file is read-only: give it to the user who runs the aggregator",
    "SQLITE_CANTOPEN": "the file cannot be opened: check its folder and who owns it",
}


class Ledger:
    """One aggregator's ledger at `path`; used by one thread.

    Raises ConfigError when another aggregator holds it or a newer midge wrote it, and StorageError when the
    file is damaged or cannot be written; a failed `commit` leaves nothing behind.
    """

    listener: Callable[[Sequence[Record]], None] | None = None
    """Told of records once they stand; it must not write."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = _lock(path.with_name(f"{path.name}.lock"))
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def commit(self, records: Sequence[Record], snapshot: bytes | None) -> None:
        """Write records and the coordinator's snapshot in one transaction; None keeps the last snapshot."""
        unix_s = self._clock()
        with self._transaction():
            for record in records:
                self._write(record, unix_s)
            if snapshot is not None:
                self._save("snapshot", snapshot)
        if self.listener is not None:
            self.listener(records)

    def snapshot(self) -> bytes | None:
        """Return what the last commit saved."""
        saved = self._one("SELECT value FROM state WHERE name = 'snapshot'")
        return None if saved is None else saved["value"]

    def session(self) -> int:
        """Return the number of the newest session, 0 before the first."""
        saved = self._one("SELECT value FROM state WHERE name = 'session'")
        return 0 if saved is None else saved["value"]

    def next_session(self, unix_s: float, above: int = 0) -> int:
        """Begin a session: its number is higher than all before and than `above`, whatever the clock says."""
        with self._transaction():
            session = max(int(unix_s), self.session() + 1, above + 1)
            self._save("session", session)
        return session

    def answer(self, run: str, round_: int, device: str, transfer: str) -> Answer:
        """Answer an offer that no open round takes; the same offer always gets the same answer."""
        where = {"run": run, "round": round_, "device": device}
        if (update := self._one(schema.ACCEPTED_UPDATE, where)) is not None:
            same = update["digest"].startswith(transfer)
            return Answer(ReceiptOutcome.ACCEPTED if same else ReceiptOutcome.DUPLICATE)
        if (refusal := self._one(schema.REJECTION, where)) is not None:
            return Answer(ReceiptOutcome.REJECTED, RejectReason(refusal["reason"]))
        known = self._one("SELECT 1 FROM runs WHERE run = ?", (run,))
        return Answer(ReceiptOutcome.LATE if known else ReceiptOutcome.UNKNOWN_RUN)

    def first_theta(self, run: str) -> BlobRef | None:
        """Return the weights with which a run began; None before it was prepared."""
        row = self._one("SELECT theta FROM runs WHERE run = ? AND theta NOT NULL", (run,))
        return None if row is None else BlobRef.model_validate_json(row["theta"])

    def incidents(self, limit: int = 20) -> list[IncidentRow]:
        """List the newest incidents, newest first."""
        rows = self._all("SELECT * FROM incidents ORDER BY id DESC LIMIT ?", (limit,))
        return [incident_of(row) for row in rows]

    def excluded(self) -> dict[str, str]:
        """Why each device that is excluded is so, by device."""
        rows = self._all("SELECT device, reason FROM exclusions ORDER BY device", ())
        return {row["device"]: row["reason"] for row in rows}

    def run_of(self, request: str) -> str | None:
        """Return the run that a request started, if it did."""
        started = self._one("SELECT run FROM runs WHERE request = ?", (request,))
        return None if started is None else started["run"]

    def runs(self, limit: int = 100) -> list[RunSummary]:
        """List the newest runs, newest first."""
        return [summary_of(row) for row in self._all(schema.RUNS, (limit,))]

    def rounds(self, run: str, after: int = 0) -> list[RoundRow]:
        """List a run's rounds in order, those after round `after`."""
        return [round_of(row) for row in self._all(schema.ROUNDS, (run, after))]

    def query(self, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        """Read whatever a view of its own wants to know."""
        return self._all(statement, values)

    def participants(self, run: str, round_: int) -> list[ParticipantRow]:
        """List what each device did in a round, in the order of their names."""
        rows = self._all(schema.PARTICIPANTS, {"run": run, "round": round_})
        return [participant_of(row) for row in rows]

    def reply(self, request: str) -> bytes | None:
        """Return the reply to a request that was answered before."""
        answered = self._one("SELECT reply FROM requests WHERE id = ?", (request,))
        return None if answered is None else answered["reply"]

    def want_blob(self, ref: BlobRef) -> None:
        """Note that a blob is about to lie on the broker."""
        with self._transaction():
            self._connection.execute(
                "REPLACE INTO blobs VALUES (?, ?, ?, NULL)", (ref.digest, ref.size, ref.chunk_bytes)
            )

    def drop_blob(self, ref: BlobRef) -> None:
        """Note that a blob is to be cleared from the broker, whenever the broker brings it back."""
        with self._transaction():
            self._connection.execute(
                "REPLACE INTO blobs VALUES (?, ?, ?, (SELECT coalesce(max(dropped), 0) + 1 FROM blobs))",
                (ref.digest, ref.size, ref.chunk_bytes),
            )

    def wanted_blobs(self) -> list[BlobRef]:
        """List the blobs that lie on the broker, as far as is known."""
        return [
            blob_of(row) for row in self._all("SELECT * FROM blobs WHERE dropped IS NULL ORDER BY digest")
        ]

    def dropped_blobs(self, limit: int = 64) -> list[BlobRef]:
        """List the blobs dropped last, newest first."""
        rows = self._all("SELECT * FROM blobs WHERE dropped NOT NULL ORDER BY dropped DESC LIMIT ?", (limit,))
        return [blob_of(row) for row in rows]

    def device_keys(self) -> dict[str, str]:
        """Each device's public key, as it was first used."""
        return {row["device"]: row["key"] for row in self._all("SELECT device, key FROM device_keys")}

    def pin_device_key(self, device: str, key: str, unix_s: float) -> None:
        """Note by which key a device is known from now on; the first one stands."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR IGNORE INTO device_keys VALUES (?, ?, ?)", (device, key, unix_s)
            )

    def forget_device_key(self, device: str) -> None:
        """Have the device known by whatever key it uses next."""
        with self._transaction():
            self._connection.execute("DELETE FROM device_keys WHERE device = ?", (device,))

    def close(self) -> None:
        """Close the file and release its lock."""
        self._connection.close()
        os.close(self._lock)

    def _open(self) -> None:
        with self._storage():
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > schema.VERSION:
            raise ConfigError(
                f"{self._path} was written by a newer midge: it has schema {version}, known are up to "
                f"{schema.VERSION}; install that version, or choose another folder"
            )
        if version < schema.VERSION:
            self._migrate(version)

    def _migrate(self, version: int) -> None:
        """Bring the tables up to date in one transaction: a crash leaves the old ledger."""
        if version > 0:
            log.info("%s: schema %d becomes %d", self._path, version, schema.VERSION)
        steps = "".join(schema.MIGRATIONS[version:])
        self._connection.executescript(f"BEGIN; {steps} PRAGMA user_version = {schema.VERSION}; COMMIT;")

    def _write(self, record: Record, unix_s: float) -> None:
        values = {field.name: _column(getattr(record, field.name)) for field in fields(record)}
        written = self._connection.execute(schema.STATEMENTS[type(record)], {**values, "unix_s": unix_s})
        if written.rowcount != 1:
            raise StorageError(f"{self._path} holds no open run or round for {record}; nothing was written")
        if isinstance(record, RoundOpened):
            for device in record.cohort:
                self._write(Invited(record.run, record.round, device), unix_s)

    def _save(self, name: str, value: bytes | int) -> None:
        self._connection.execute("REPLACE INTO state VALUES (?, ?)", (name, value))

    def _one(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Row | None:
        rows = self._all(statement, values)
        return rows[0] if rows else None

    def _all(self, statement: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[sqlite3.Row]:
        with self._storage():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._storage():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite itself rolls back when the disk is full.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            cure = next(
                (cure for code, cure in _CURES.items() if name.startswith(code)), "nothing was written"
            )
            kind = NoRoomError if name.startswith(_NO_ROOM) else StorageError
            raise kind(f"ledger {self._path}: {error}; {cure}") from error


def in_use(path: Path) -> bool:
    """Whether an aggregator holds the ledger at `path` now."""
    try:
        os.close(_lock(path.with_name(f"{path.name}.lock")))
    except ConfigError:
        return True
    return False


def _lock(path: Path) -> int:
    """Hold an exclusive lock for as long as the returned descriptor is open."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError(
            f"{path} is held by another aggregator: stop that one, or give this one its own folder"
        ) from None
    return descriptor


def _column(value: object) -> object:
    if isinstance(value, BlobRef):
        return value.model_dump_json()
    if isinstance(value, Mapping | tuple):
        return json.dumps(value, allow_nan=False)
    return value
