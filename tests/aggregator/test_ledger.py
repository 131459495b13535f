import dataclasses
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from aggregator.ledger import Ledger
from aggregator.ledger_schema import MIGRATIONS, STATEMENTS, VERSION
from aggregator.records import (
    Course,
    Decided,
    Declined,
    Incident,
    IncidentKind,
    Invited,
    Record,
    Reported,
    RequestAnswered,
    RoundClosed,
    RoundOpened,
    RunEnded,
    RunPrepared,
    RunStarted,
    Transition,
    UpdateAccepted,
    UpdateLost,
    UpdateRefused,
)
from broker.messages import BlobRef, DeclineReason, ReceiptOutcome, RejectReason
from host.errors import ConfigError, NoRoomError, StorageError

THETA = BlobRef(digest="a" * 64, size=4000, chunk_bytes=1024)
PROGRAM = BlobRef(digest="b" * 64, size=2000, chunk_bytes=1024)
STARTED = RunStarted("run", "digits", {"rounds": 5, "quorum": None}, seed=7, parent="older", request="0" * 16)
DAMAGED = Incident(IncidentKind.DAMAGED, "run", 1, "spool/run/1/pi-1.update", "another digest")
OPENED = RoundOpened("run", 1, ("pi-1", "pi-2"), target=2, quorum=1)


def accepted(device: str = "pi-1", digest: str = "c" * 64, round_: int = 1) -> UpdateAccepted:
    return UpdateAccepted(
        "run", round_, device, digest, 4096, 60, {"loss": (30.0, 60.0)}, {"loss": (3.0, 6.0)}, 2.5
    )


def closed(round_: int = 1, outcome: str = "completed") -> RoundClosed:
    return RoundClosed("run", round_, outcome, "target reached", THETA, {"accuracy": (9.0, 10.0)}, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    made = Ledger(path, clock=lambda: 1000.0)
    yield made
    made.close()


def test_every_kind_of_record_has_its_statement() -> None:
    assert set(STATEMENTS) == set(get_args(Record))


def test_a_new_ledger_has_no_snapshot(ledger: Ledger) -> None:
    assert ledger.snapshot() is None


def test_records_and_snapshot_survive_a_restart(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.commit([STARTED, OPENED, accepted()], b"state")
    with closing(Ledger(path)) as ledger:
        assert ledger.snapshot() == b"state"
        assert [row.accepted for row in ledger.rounds("run")] == [1]


def test_a_commit_without_snapshot_keeps_the_last(ledger: Ledger) -> None:
    ledger.commit([STARTED], b"state")
    ledger.commit([OPENED], None)
    assert ledger.snapshot() == b"state"


def test_an_update_is_counted_once_whatever_the_coordinator_says(ledger: Ledger) -> None:
    ledger.commit([STARTED, OPENED, accepted()], b"one")
    with pytest.raises(StorageError, match=r"UNIQUE.*updates"):
        ledger.commit([accepted("pi-2"), accepted(digest="d" * 64)], b"two")
    assert ledger.snapshot() == b"one"
    assert [row.device for row in ledger.participants("run", 1) if row.digest] == ["pi-1"]


def test_a_round_number_is_never_used_again(ledger: Ledger) -> None:
    ledger.commit([STARTED, OPENED, closed(outcome="abandoned")], b"")
    with pytest.raises(StorageError, match=r"UNIQUE.*rounds"):
        ledger.commit([OPENED], b"")


@pytest.mark.parametrize(
    "record",
    [
        RoundOpened("other", 1, (), 1, 1),
        accepted(round_=2),
        Reported("run", 2, "pi-1", {}),
        Declined("run", 2, "pi-1", DeclineReason.DISK),
        Invited("run", 2, "pi-1"),
        Course("run", 2, "pi-1", (), 0),
        closed(2),
        RunEnded("other", "finished"),
        RunPrepared("other", THETA, PROGRAM, "e" * 64, 1000),
    ],
)
def test_a_record_of_an_unknown_run_or_round_is_refused(ledger: Ledger, record: Record) -> None:
    ledger.commit([STARTED, OPENED], b"")
    with pytest.raises(StorageError):
        ledger.commit([record], b"")


@pytest.mark.parametrize("record", [closed(), RunEnded("run", "finished")])
def test_what_is_over_does_not_end_again(ledger: Ledger, record: Record) -> None:
    ledger.commit([STARTED, OPENED, record], b"")
    with pytest.raises(StorageError, match="no open run or round"):
        ledger.commit([record], b"")


def test_session_numbers_rise_also_when_the_clock_goes_back(ledger: Ledger) -> None:
    assert ledger.next_session(500.9) == 500
    assert ledger.next_session(3.0) == 501
    assert ledger.next_session(900.0) == 900


@pytest.mark.parametrize(
    ("offer", "outcome"),
    [
        (("run", 1, "pi-1", "c" * 16), ReceiptOutcome.ACCEPTED),
        (("run", 1, "pi-1", "d" * 16), ReceiptOutcome.DUPLICATE),
        (("run", 1, "pi-2", "c" * 16), ReceiptOutcome.LATE),
        (("run", 9, "pi-1", "c" * 16), ReceiptOutcome.LATE),
        (("other", 1, "pi-1", "c" * 16), ReceiptOutcome.UNKNOWN_RUN),
    ],
)
def test_an_offer_gets_its_answer(
    ledger: Ledger, offer: tuple[str, int, str, str], outcome: ReceiptOutcome
) -> None:
    ledger.commit([STARTED, OPENED, accepted(), closed()], b"")
    assert ledger.answer(*offer) == (outcome, None)


def test_a_rejected_offer_is_rejected_for_the_same_reason_after_its_round(ledger: Ledger) -> None:
    refused = UpdateRefused("run", 1, "pi-2", ReceiptOutcome.REJECTED, RejectReason.NOT_FINITE)
    ledger.commit([STARTED, OPENED, refused, closed()], b"")
    assert ledger.answer("run", 1, "pi-2", "c" * 16) == (ReceiptOutcome.REJECTED, RejectReason.NOT_FINITE)


def test_the_run_that_a_request_started_is_found(ledger: Ledger) -> None:
    ledger.commit([dataclasses.replace(STARTED, request="a" * 16)], b"")
    assert ledger.run_of("a" * 16) == "run"
    assert ledger.run_of("b" * 16) is None


def test_runs_are_listed_newest_first_with_their_last_metrics(ledger: Ledger) -> None:
    open_round = RoundOpened("run", 3, (), 1, 1)
    ledger.commit([STARTED, OPENED, closed()], b"")
    ledger.commit([RoundOpened("run", 2, (), 1, 1), RoundClosed("run", 2, "abandoned", "", THETA)], b"")
    ledger.commit([open_round], b"")
    ledger.commit([RunEnded("run", "stopped"), RunStarted("next", "digits", {}, 0)], b"")
    newest, older = ledger.runs()
    assert (newest.run, newest.state, newest.metrics) == ("next", "active", {})
    assert (older.state, older.rounds, older.rounds_done) == ("stopped", 5, 1)
    assert older.metrics == {"accuracy": 0.9}
    assert [run.run for run in ledger.runs(limit=1)] == ["next"]


def test_a_round_is_read_back_as_it_was_told(ledger: Ledger) -> None:
    ledger.commit([STARTED, RunPrepared("run", THETA, PROGRAM, "e" * 64, 1000), OPENED, accepted()], b"")
    (row,) = ledger.rounds("run")
    assert (row.outcome, row.theta, row.metrics, row.closed_unix_s) == (None, None, None, None)
    ledger.commit([closed()], b"")
    (row,) = ledger.rounds("run")
    assert (row.round, row.target, row.quorum, row.participants, row.accepted) == (1, 2, 1, 2, 1)
    assert (row.outcome, row.reason, row.theta) == ("completed", "target reached", THETA)
    assert row.metrics == {"accuracy": (9.0, 10.0)}
    assert row.federated is None
    assert (row.opened_unix_s, row.closed_unix_s) == (1000.0, 1000.0)


def test_what_each_device_did_is_told_once_a_device(ledger: Ledger) -> None:
    ledger.commit([STARTED, OPENED, Invited("run", 1, "pi-3"), accepted()], b"")
    ledger.commit(
        [
            UpdateRefused("run", 1, "pi-2", ReceiptOutcome.REJECTED, RejectReason.NORM),
            UpdateRefused("run", 1, "pi-2", ReceiptOutcome.REJECTED, RejectReason.NOT_FINITE),
            Declined("run", 1, "pi-3", DeclineReason.DISK, "full"),
            Reported("run", 1, "pi-1", {"loss": (1.0, 2.0)}),
            UpdateRefused("run", 1, "stranger", ReceiptOutcome.REJECTED, RejectReason.NOT_INVITED),
        ],
        b"",
    )
    one, two, three, stranger = ledger.participants("run", 1)
    assert (one.device, one.digest, one.examples, one.seconds) == ("pi-1", "c" * 64, 60, 2.5)
    assert (one.metrics, one.validation) == ({"loss": (30.0, 60.0)}, {"loss": (3.0, 6.0)})
    assert one.reported == {"loss": (1.0, 2.0)}
    assert (two.device, two.refused, two.refused_reason) == ("pi-2", "rejected", "not-finite")
    assert (three.device, three.declined, three.digest) == ("pi-3", "disk", None)
    assert (stranger.device, stranger.refused_reason) == ("stranger", "not-in-cohort")


def test_how_each_participant_spent_a_round_is_read_back_once_it_is_closed(ledger: Ledger) -> None:
    ledger.commit([STARTED, OPENED, accepted()], b"")
    assert [(row.steps, row.bytes_down) for row in ledger.participants("run", 1)] == [((), None)] * 2
    steps = (("fetching", 0.5), ("training", 2.25), ("reported", 9.0))
    course = [Course("run", 1, "pi-1", steps, 5000), Course("run", 1, "pi-2", (), 700)]
    ledger.commit([*course, closed()], b"")
    one, two = ledger.participants("run", 1)
    assert (one.steps, one.bytes_down, one.size) == (steps, 5000, 4096)
    assert (two.steps, two.bytes_down, two.size) == ((), 700, None)
    (row,) = ledger.rounds("run")
    assert (row.bytes_up, row.bytes_down) == (4096, 5700)


def test_a_request_is_answered_with_its_first_reply(ledger: Ledger) -> None:
    answered = RequestAnswered("1" * 16, "anna", "start", {"task": "digits"}, "idle", "run r1", b"reply")
    ledger.commit([STARTED, answered], b"")
    assert ledger.reply("1" * 16) == b"reply"
    assert ledger.reply("2" * 16) is None
    with pytest.raises(StorageError, match=r"UNIQUE.*requests"):
        ledger.commit([answered], b"")


def test_transitions_are_kept_in_order(ledger: Ledger, path: Path) -> None:
    ledger.commit([STARTED, Transition("run", None, "idle", "preparing", "")], b"")
    ledger.commit([OPENED, Transition("run", 1, "waiting", "training", "2 devices")], b"")
    with closing(sqlite3.connect(path)) as reader:
        rows = reader.execute("SELECT round, source, target FROM transitions ORDER BY id").fetchall()
    assert rows == [(None, "idle", "preparing"), (1, "waiting", "training")]


def test_decisions_are_kept_in_order(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        lost, grace = Decided("run", 1, "pi-2", "lost", "silent"), Decided("run", 1, None, "grace", "30 s")
        ledger.commit([STARTED, OPENED, lost, grace], None)
    with closing(sqlite3.connect(path)) as file:
        rows = file.execute(
            "SELECT run, round, device, decision, reason FROM decisions ORDER BY id"
        ).fetchall()
    assert rows == [("run", 1, "pi-2", "lost", "silent"), ("run", 1, None, "grace", "30 s")]


def test_dropped_blobs_are_listed_newest_first_until_wanted_again(ledger: Ledger) -> None:
    blobs = [BlobRef(digest=f"{number:064x}", size=10, chunk_bytes=1024) for number in range(3)]
    for blob in blobs:
        ledger.want_blob(blob)
    for blob in (blobs[1], blobs[0], blobs[2]):
        ledger.drop_blob(blob)
    assert ledger.dropped_blobs(limit=2) == [blobs[2], blobs[0]]
    ledger.want_blob(blobs[2])
    assert ledger.dropped_blobs() == [blobs[0], blobs[1]]
    assert ledger.wanted_blobs() == [blobs[2]]


def test_a_second_aggregator_on_the_same_folder_is_told_so(ledger: Ledger, path: Path) -> None:
    script = f"from pathlib import Path; from aggregator.ledger import Ledger; Ledger(Path({str(path)!r}))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ConfigError" in other.stderr
    assert "another aggregator" in other.stderr
    assert ledger.snapshot() is None


def test_the_lock_is_free_after_close_and_after_a_failed_open(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match="damaged"):
        Ledger(path)
    path.unlink()
    Ledger(path).close()
    Ledger(path).close()


def test_damaged_pages_are_told_with_what_to_do(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.commit([STARTED, OPENED], bytes(1 << 18))
    size = path.stat().st_size
    with path.open("r+b") as file:
        # The tables' own pages stand before the snapshot's.
        file.seek(size // 2)
        file.write(b"\xff" * (size - size // 2))
    with closing(Ledger(path)) as ledger, pytest.raises(StorageError, match="backup"):
        ledger.snapshot()


def test_a_ledger_of_a_newer_midge_is_refused(path: Path) -> None:
    Ledger(path).close()
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="newer midge"):
        Ledger(path)


def first_version(path: Path) -> None:
    """A ledger as the first midge wrote it, with a run in it."""
    with closing(sqlite3.connect(path)) as writer:
        writer.executescript(f"BEGIN; {MIGRATIONS[0]} PRAGMA user_version = 1; COMMIT;")
        writer.execute(
            "INSERT INTO runs (run, task, settings, seed, started_unix_s) VALUES ('r', 't', '{}', 7, 1)"
        )
        writer.execute("INSERT INTO state VALUES ('snapshot', x'6f6c64')")
        writer.commit()


def shape(path: Path) -> list[tuple[str | int, ...]]:
    with closing(sqlite3.connect(path)) as reader:
        tables = reader.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        return [*tables, *reader.execute("PRAGMA user_version").fetchall()]


def test_an_older_ledger_is_brought_up_to_date_with_all_that_is_in_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old.sqlite", tmp_path / "new.sqlite"
    first_version(old)
    with closing(Ledger(old, clock=lambda: 1000.0)) as ledger:
        assert ledger.snapshot() == b"old"
        assert [summary.run for summary in ledger.runs()] == ["r"]
        ledger.commit([DAMAGED], None)
        assert [row.subject for row in ledger.incidents()] == [DAMAGED.subject]
    Ledger(new).close()
    assert shape(old) == shape(new)


def older_version(path: Path, version: int) -> None:
    """A ledger as the midge of that schema wrote it, with a round in it that was closed."""
    with closing(sqlite3.connect(path)) as writer:
        steps = "".join(MIGRATIONS[:version])
        writer.executescript(f"BEGIN; {steps} PRAGMA user_version = {version}; COMMIT;")
        writer.executescript("""
            INSERT INTO runs (run, task, settings, seed, started_unix_s) VALUES ('run', 't', '{}', 7, 1);
            INSERT INTO rounds VALUES ('run', 1, 2, 1, 100.0, 'completed', '', NULL, NULL, NULL, 112.5);
            INSERT INTO participants VALUES ('run', 1, 'pi-1', 100.0), ('run', 1, 'pi-2', 100.0);
            INSERT INTO updates
                VALUES ('run', 1, 'pi-1', 'c', 4096, 60, '{"loss": [30.0, 60.0]}', '{}', 2.5, 109.0);
        """)


@pytest.mark.parametrize("version", range(1, VERSION), ids=str)
def test_rounds_of_every_earlier_version_are_read_beside_new_ones(path: Path, version: int) -> None:
    older_version(path, version)
    with closing(Ledger(path)) as ledger:
        again = RoundOpened("run", 2, ("pi-1",), 1, 1)
        course = Course("run", 2, "pi-1", (("fetching", 0.5),), 5000)
        ledger.commit([again, accepted(round_=2), course, closed(2)], b"")
        assert [(row.bytes_up, row.bytes_down) for row in ledger.rounds("run")] == [(4096, 0), (4096, 5000)]
        one, two = ledger.participants("run", 1)
        assert (one.steps, one.bytes_down, one.size, one.seconds) == ((), None, 4096, 2.5)
        assert one.metrics == {"loss": (30.0, 60.0)}
        assert (two.steps, two.bytes_down, two.size, two.metrics) == ((), None, None, None)
        (new,) = ledger.participants("run", 2)
        assert (new.steps, new.bytes_down, new.size) == ((("fetching", 0.5),), 5000, 4096)


def test_an_empty_file_of_version_0_becomes_a_ledger(path: Path) -> None:
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA user_version = 0")
    with closing(Ledger(path)) as ledger:
        ledger.commit([STARTED], b"state")
    assert shape(path)[-1] == (VERSION,)


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_version(path)
    before = shape(path)
    broken = (*MIGRATIONS, "CREATE TABLE half (done); CREATE TABLE half (again);")
    monkeypatch.setattr("aggregator.ledger_schema.MIGRATIONS", broken)
    with pytest.raises(StorageError, match="already exists"):
        Ledger(path)
    assert shape(path) == before


def test_a_lost_update_counts_no_more_and_may_come_again(ledger: Ledger) -> None:
    ledger.commit([STARTED, OPENED, accepted()], b"")
    ledger.commit([UpdateLost("run", 1, "pi-1", "c" * 64), DAMAGED], b"")
    assert ledger.answer("run", 1, "pi-1", "c" * 16).outcome is ReceiptOutcome.LATE
    ledger.commit([accepted(digest="d" * 64)], b"")
    assert ledger.answer("run", 1, "pi-1", "d" * 16).outcome is ReceiptOutcome.ACCEPTED


def test_a_session_is_above_one_that_was_seen_elsewhere(ledger: Ledger) -> None:
    assert ledger.next_session(1000.0, above=5000) == 5001
    assert ledger.next_session(1000.0) == 5002
    assert ledger.session() == 5002


def test_a_full_disk_leaves_the_last_commit(ledger: Ledger) -> None:
    ledger.commit([STARTED], b"small")
    ledger._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(NoRoomError, match="free some space"):
        ledger.commit([OPENED], bytes(1 << 20))
    assert ledger.snapshot() == b"small"
    assert ledger.rounds("run") == []
    ledger._connection.execute("PRAGMA max_page_count = 100000")
    ledger.commit([OPENED], b"after")
    assert ledger.snapshot() == b"after"


def test_a_process_killed_inside_a_commit_leaves_the_one_before(path: Path) -> None:
    with closing(Ledger(path)) as ledger:
        ledger.commit([STARTED], b"before")
    script = f"""
import os
from pathlib import Path
from aggregator.ledger import Ledger
from aggregator.records import RoundOpened
ledger = Ledger(Path({str(path)!r}))
def records():
    yield RoundOpened("run", 1, ("pi-1",), 1, 1)
    os.kill(os.getpid(), 9)
ledger.commit(records(), b"after")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with closing(Ledger(path)) as ledger:
        assert ledger.snapshot() == b"before"
        assert ledger.rounds("run") == []


def test_commits_are_synced_to_the_disk_and_foreign_keys_hold(ledger: Ledger) -> None:
    pragmas = {
        name: ledger._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_settings_are_kept_as_json(ledger: Ledger, path: Path) -> None:
    ledger.commit([STARTED], b"")
    with closing(sqlite3.connect(path)) as reader:
        (settings,) = reader.execute("SELECT settings FROM runs").fetchone()
    assert json.loads(settings) == {"rounds": 5, "quorum": None}
