"""The simulated disks keep the contracts of the real ones; a power cut leaves all of a write, or none."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.ledger import Ledger
from aggregator.ledger_rows import Answer
from aggregator.records import RunStarted, UpdateAccepted, UpdateRefused
from aggregator.spool import Spool
from broker.messages import BlobRef, Offer, ReceiptOutcome, RejectReason
from deploy.simulator.clock import Clock
from deploy.simulator.disk import Disk, MemoryLedger, PowerCut, SimulatedSpool, SimulatedStore, zeros
from edge_agent.snapshot import Snapshot
from edge_agent.store import Store
from host.errors import StorageError, WireError

KINDS = ("real", "simulated")
CHUNK = 1024


def ref_of(size: int) -> BlobRef:
    """A blob of zeros, which is what the simulator's chunks hold."""
    return BlobRef(digest=hashlib.sha256(bytes(size)).hexdigest(), size=size, chunk_bytes=CHUNK)


BLOB, OTHER = ref_of(3000), ref_of(2000)


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    real = request.param == "real"
    ledger = Ledger(tmp_path / "ledger.sqlite") if real else MemoryLedger(lambda: 1.0)
    yield ledger
    ledger.close()


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path) if request.param == "real" else SimulatedStore(Disk(Clock(0)))
    yield store
    store.close()


@pytest.fixture(params=KINDS)
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", 1 << 30) if request.param == "real" else SimulatedSpool(Disk(Clock(0)))


def keep_update(store: Store, size: int) -> BlobRef:
    """As the trainer leaves it."""
    if isinstance(store, SimulatedStore):
        ref = ref_of(size)
        store.keep_update(ref)
        return ref
    store.new_update.write_bytes(bytes(size))
    return store.take_update(CHUNK)


def pending(update: BlobRef) -> Snapshot:
    return Snapshot(session=3, sequence=4, pending=Offer(run="run-a", round=1, update=update, examples=1))


def test_a_commit_of_something_that_counts_already_leaves_nothing_behind(ledger: Ledger) -> None:
    ledger.commit((RunStarted("run-a", "task", {}, 0),), b"first")
    with pytest.raises(StorageError):
        ledger.commit((RunStarted("run-b", "task", {}, 0), RunStarted("run-a", "task", {}, 0)), b"second")
    assert ledger.snapshot() == b"first"
    assert [summary.run for summary in ledger.runs()] == ["run-a"]


def test_a_session_is_above_all_before_whatever_the_clock_says(ledger: Ledger) -> None:
    assert [ledger.next_session(unix_s) for unix_s in (100.0, 7.0, 200.0)] == [100, 101, 200]


def test_the_ledger_refuses_an_update_of_no_round_and_answers_as_before(ledger: Ledger) -> None:
    ledger.commit((RunStarted("run-a", "task", {}, 0),), b"")
    stray = UpdateAccepted("run-a", 1, "pi-1", "a" * 64, 10, 1, {}, {}, 0.0)
    with pytest.raises(StorageError):
        ledger.commit((stray,), b"")
    refused = UpdateRefused("run-a", 1, "pi-1", ReceiptOutcome.REJECTED, RejectReason.NORM)
    ledger.commit((refused,), b"")
    assert ledger.answer("run-a", 1, "pi-1", "a" * 16) == Answer(ReceiptOutcome.REJECTED, RejectReason.NORM)
    assert ledger.answer("run-b", 1, "pi-1", "a" * 16) == Answer(ReceiptOutcome.UNKNOWN_RUN)


def test_a_pending_update_is_kept_with_its_snapshot_and_readable(store: Store) -> None:
    kept = keep_update(store, 2500)
    store.save(pending(kept))
    assert store.load() == pending(kept)
    assert [len(store.read_chunk(kept, index)) for index in range(3)] == [1024, 1024, 452]


def test_an_update_that_no_snapshot_names_is_gone_after_a_restart(store: Store) -> None:
    kept = keep_update(store, 2500)
    store.save(Snapshot())
    assert store.load() == Snapshot()
    with pytest.raises(StorageError):
        store.read_chunk(kept, 0)


def test_a_pending_update_without_its_file_is_not_pending(store: Store) -> None:
    store.save(pending(ref_of(2500)))
    assert store.load().pending is None


def test_a_deleted_update_cannot_be_read(store: Store) -> None:
    kept = keep_update(store, 2500)
    store.delete_update(kept.transfer)
    with pytest.raises(StorageError):
        store.read_chunk(kept, 0)


def test_a_blob_is_there_once_it_is_finished_and_until_others_are_wanted(store: Store) -> None:
    part = store.part(BLOB)
    for index in range(BLOB.chunks):
        assert part.write(index, zeros(BLOB, index))
        assert not part.write(index, zeros(BLOB, index))
        assert not store.has_blob(BLOB)
    part.finish()
    assert store.has_blob(BLOB)
    store.keep_blobs([BLOB, OTHER])
    assert store.has_blob(BLOB)
    store.keep_blobs([OTHER])
    assert not store.has_blob(BLOB)


def test_what_came_of_a_blob_is_there_after_a_restart(store: Store) -> None:
    store.part(BLOB).write(1, zeros(BLOB, 1))
    resumed = store.part(BLOB)
    assert resumed.missing(9) == [0, 2]
    assert resumed.bitmap == b"\0\1\0"
    assert not resumed.complete


@pytest.mark.parametrize(("index", "length"), [(3, 1024), (0, 1000), (2, 1024)], ids=["far", "short", "long"])
def test_a_chunk_that_does_not_fit_is_refused(store: Store, index: int, length: int) -> None:
    with pytest.raises(WireError):
        store.part(BLOB).write(index, bytes(length))


def test_a_new_upload_of_a_device_removes_its_former(spool: Spool) -> None:
    spool.part("run-a", 1, "pi-1", BLOB).write(0, zeros(BLOB, 0))
    spool.part("run-a", 1, "pi-2", BLOB).write(0, zeros(BLOB, 0))
    spool.part("run-a", 1, "pi-1", OTHER)
    assert spool.part("run-a", 1, "pi-2", BLOB).missing(9) == [1, 2]
    assert spool.part("run-a", 1, "pi-1", BLOB).missing(9) == [0, 1, 2]


@pytest.mark.parametrize(
    "keep", [[], [("run-a", 2)], [("run-a", 1), ("run-b", 1)]], ids=["none", "a round", "two"]
)
def test_a_sweep_removes_what_other_rounds_left(spool: Spool, keep: list[tuple[str, int]]) -> None:
    rounds = [("run-a", 1), ("run-a", 2), ("run-b", 1)]
    for run, number in rounds:
        spool.part(run, number, "pi-1", BLOB).write(0, zeros(BLOB, 0))
    spool.sweep(keep)
    left = [key for key in rounds if spool.part(*key, "pi-1", BLOB).received]
    assert left == [key for key in rounds if key in keep]


def test_a_power_cut_at_a_sync_comes_before_the_write_or_after_it() -> None:
    disk, kept, written, cuts = Disk(Clock(1)), [0], 0, 0
    disk.cuts = 0.5
    for number in range(200):
        try:
            disk.sync(lambda: kept.append(number))  # noqa: B023 - called at once
        except PowerCut:
            cuts += 1
            written += kept[-1] == number
    assert 0 < written < cuts < 200


def test_what_a_power_cut_tore_is_found_by_its_digest() -> None:
    fates = set()
    for seed in range(20):
        disk = Disk(Clock(seed))
        store = SimulatedStore(disk)
        part = store.part(BLOB)
        for index in range(BLOB.chunks):
            part.write(index, zeros(BLOB, index))
        disk.tear()
        resumed = store.part(BLOB)
        try:
            fates.add(resumed.finish() is not None if resumed.complete else "gone")
        except WireError:
            fates.add("torn")
    assert fates == {True, "gone", "torn"}
