import errno
import hashlib
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.messages import BlobRef, Offer
from edge_agent.snapshot import RoundKey, Snapshot
from edge_agent.store import SPARE_BYTES, FolderInUseError, Store
from host.errors import StorageError
from tests.edge_agent.small_disk import small_disk

CONTENT = bytes(range(256)) * 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where `store` is."""
    return tmp_path / "state"


def reload(folder: Path) -> Snapshot:
    with closing(Store(folder)) as opened:
        return opened.load()


def taken(store: Store) -> BlobRef:
    store.new_update.write_bytes(CONTENT)
    return store.take_update(1024)


def saved_in(folder: Path) -> tuple[Snapshot, bytes]:
    """What a store saves here of a pending update: the snapshot, and the file of it."""
    with closing(Store(folder)) as store:
        snapshot = pending(taken(store))
        store.save(snapshot)
    return snapshot, (folder / "state.json").read_bytes()


def pending(update: BlobRef) -> Snapshot:
    offer = Offer(run="run-a", round=3, update=update, examples=5, metrics={"loss": (1.5, 5.0)})
    speeds = {"b" * 64: 12.5, "a" * 64: 0.1}
    return Snapshot(
        session=9, trained=RoundKey("run-a", 3), evaluated=RoundKey("run-a", 2), speeds=speeds, pending=offer
    )


def test_what_was_saved_is_loaded(store: Store, folder: Path) -> None:
    assert store.load() == Snapshot()
    saved = pending(taken(store))
    store.save(saved)
    store.close()
    assert reload(folder) == saved


def test_two_agents_cannot_share_a_folder(store: Store, folder: Path) -> None:
    with pytest.raises(StorageError, match="belongs to an agent that runs"):
        Store(folder)
    store.close()
    Store(folder).close()


def test_a_killed_agent_leaves_no_lock(folder: Path) -> None:
    code = (
        "import os, pathlib, sys\nfrom edge_agent.store import Store\n"
        "store = Store(pathlib.Path(sys.argv[1]))\nos.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, folder], check=False, cwd=Path(__file__).parents[2])
    assert (folder / "lock").exists()
    Store(folder).close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\x00" * 100,
        b"[]",
        b'{"session": -1}',
        b'{"unknown": 1}',
        b'{"pending": {"run": "x"}}',
        b"\xff",
    ],
)
def test_a_damaged_state_file_is_put_aside_and_all_starts_fresh(
    store: Store, folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "state.json").write_bytes(content)
    assert store.load() == Snapshot()
    assert (folder / "state.json.damaged").read_bytes() == content
    assert not (folder / "state.json").exists()
    assert "put aside" in caplog.text


@given(length=st.integers(0, 2000))
def test_a_state_file_cut_short_at_any_byte_is_whole_or_put_aside(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    saved, whole = saved_in(folder)
    (folder / "state.json").write_bytes(whole[:length])
    loaded = reload(folder)
    if length >= len(whole):
        assert loaded == saved
        return
    assert loaded == Snapshot()
    assert (folder / "state.json.damaged").read_bytes() == whole[:length]
    assert not list(folder.glob("*.update"))
    again, _ = saved_in(folder)
    assert reload(folder) == again


@given(length=st.integers(0, 2000))
def test_a_state_file_that_was_being_written_leaves_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    saved, whole = saved_in(folder)
    (folder / ".state.json.tmp").write_bytes(whole[:length])
    assert reload(folder) == saved
    assert not list(folder.glob(".*.tmp"))


def test_a_state_file_without_its_update_offers_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    saved = pending(taken(store))
    store.save(saved)
    store.delete_update(saved.pending.update.transfer if saved.pending else "")
    assert store.load() == saved.model_copy(update={"pending": None})
    assert "is gone" in caplog.text


def test_a_torn_update_is_not_offered(store: Store, folder: Path) -> None:
    update = taken(store)
    store.save(pending(update))
    (folder / f"update-{update.transfer}.update").write_bytes(CONTENT[:-1])
    assert store.load().pending is None


def test_leftovers_of_a_crash_are_swept_but_the_pending_update_stays(store: Store, folder: Path) -> None:
    update = taken(store)
    store.save(pending(update))
    (folder / "update-0123456789abcdef.update").write_bytes(b"orphan")
    store.new_update.write_bytes(b"half written")
    assert store.load().pending is not None
    names = {path.name for path in folder.glob("*.update")}
    assert names == {f"update-{update.transfer}.update"}


class Killed(BaseException):
    """The power went."""


@pytest.mark.parametrize("survived", range(12))
def test_a_power_cut_at_any_call_leaves_the_old_state_or_the_new(
    folder: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """From the trained update to its saved snapshot, stopped after so many calls that change the disk."""
    store = Store(folder)
    old = Snapshot(session=8)
    store.save(old)
    store.new_update.write_bytes(CONTENT)
    left = [survived]

    def cut(name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "replace", "rename"):
        cut(name)
    finished = False
    try:
        update = store.take_update(1024)
        store.save(pending(update))
        finished = True
    except Killed:
        pass
    monkeypatch.undo()
    store.close()
    loaded = reload(folder)
    if loaded == old:
        assert not finished
        assert not list(folder.glob("*.update"))
    else:
        assert loaded.pending is not None
        assert loaded.pending.update.digest == hashlib.sha256(CONTENT).hexdigest()
    assert finished == (survived >= 6)


def test_chunks_of_an_update_join_to_it(store: Store) -> None:
    update = taken(store)
    assert (update.size, update.chunks) == (2560, 3)
    assert update.digest == hashlib.sha256(CONTENT).hexdigest()
    assert b"".join(store.read_chunk(update, index) for index in range(3)) == CONTENT


def test_a_chunk_that_is_not_there_is_a_storage_error(store: Store, folder: Path) -> None:
    update = taken(store)
    (folder / f"update-{update.transfer}.update").write_bytes(CONTENT[:2000])
    assert len(store.read_chunk(update, 0)) == 1024
    with pytest.raises(StorageError, match="ends before its chunk 1"):
        store.read_chunk(update, 1)
    store.delete_update(update.transfer)
    with pytest.raises(StorageError, match="cannot be read"):
        store.read_chunk(update, 0)


@pytest.mark.parametrize("content", [None, b""])
def test_an_update_that_the_trainer_did_not_write_is_a_storage_error(
    store: Store, content: bytes | None
) -> None:
    if content is not None:
        store.new_update.write_bytes(content)
    with pytest.raises(StorageError, match="is no use"):
        store.take_update(1024)


def test_only_the_blobs_in_use_are_kept(store: Store) -> None:
    ours, other = (BlobRef(digest=letter * 64, size=3, chunk_bytes=1024) for letter in "ab")
    for ref in (ours, other):
        store.blob(ref).write_bytes(b"abc")
        for ending in (".part", ".map"):
            store.blob(ref).with_name(ref.digest + ending).write_bytes(b"")
    assert store.has_blob(ours)
    store.keep_blobs([ours])
    assert [store.has_blob(ref) for ref in (ours, other)] == [True, False]
    assert len(list(store.blob(ours).parent.iterdir())) == 3


def test_a_blob_of_another_size_is_not_the_blob(store: Store) -> None:
    ref = BlobRef(digest="a" * 64, size=4, chunk_bytes=1024)
    store.blob(ref).write_bytes(b"abc")
    assert not store.has_blob(ref)


def test_the_optimizers_state_is_kept_for_one_run_only(store: Store) -> None:
    store.optimizer_state("run-a").write_bytes(b"a")
    assert store.optimizer_state("run-a").read_bytes() == b"a"
    assert not store.optimizer_state("run-b").exists()
    assert not store.optimizer_state("run-a").exists()


def test_a_folder_that_cannot_be_made_is_told_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot be used: .*see state_folder"):
        Store(tmp_path / "file")


def test_a_full_disk_is_told_with_a_remedy(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(Snapshot(session=1))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*free some space"):
        store.save(Snapshot(session=2))
    monkeypatch.undo()
    assert not list(folder.glob(".*.tmp"))
    assert json.loads((folder / "state.json").read_bytes())["session"] == 1


def test_a_blob_that_would_fill_the_disk_is_refused_before_it_is_fetched(store: Store, folder: Path) -> None:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    small = BlobRef(digest="a" * 64, size=5000, chunk_bytes=1024)
    store.check_room([small])
    huge = small.model_copy(update={"digest": "b" * 64, "size": free - SPARE_BYTES + (8 << 20)})
    with pytest.raises(StorageError, match=r"MiB free: free some space, or move state_folder"):
        store.check_room([small, huge])


def test_what_is_on_the_disk_already_needs_no_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = BlobRef(digest="a" * 64, size=4096, chunk_bytes=1024)
    store.blob(ref).write_bytes(bytes(4096))
    with store.blob(ref).open("rb") as file:
        os.fsync(file.fileno())
    monkeypatch.setattr("edge_agent.store.SPARE_BYTES", 1 << 60)
    store.check_room([ref])


def test_a_state_file_that_cannot_be_read_at_all_ends_the_agent(store: Store, folder: Path) -> None:
    (folder / "state.json").mkdir()
    with pytest.raises(StorageError, match="look at the disk's health"):
        store.load()


def test_a_read_only_folder_can_be_read_and_says_that_it_takes_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "card", 4 << 20) as disk:
        with closing(Store(disk.path)) as store:
            saved = pending(taken(store))
            store.save(saved)
            store.new_update.write_bytes(b"left over")
        disk.make_read_only()
        with closing(Store(disk.path)) as store:
            assert store.load() == saved
            with pytest.raises(FolderInUseError):
                Store(disk.path)
            with pytest.raises(StorageError, match="Read-only"):
                store.save(Snapshot())
        disk.make_writable()
        (disk.path / "state.json").write_text("{")
        disk.make_read_only()
        assert reload(disk.path) == Snapshot()


def test_unfinished_files_are_swept(store: Store, folder: Path) -> None:
    (folder / ".training.update.tmp").write_bytes(b"half")
    (folder / ".optimizer-run-a.state.tmp").write_bytes(b"half")
    store.load()
    assert not list(folder.glob(".*.tmp"))
