import errno
import hashlib
import os
from pathlib import Path

import pytest

from aggregator.blobstore import BlobStore
from broker.messages import BlobRef
from host.errors import StorageError


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 1024)


def file(folder: Path, name: str, content: bytes = b"theta" * 1000) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_a_file_is_found_by_its_content(store: BlobStore, tmp_path: Path) -> None:
    ref = store.add(file(tmp_path, "theta"))
    digest = hashlib.sha256(b"theta" * 1000).hexdigest()
    assert ref == BlobRef(digest=digest, size=5000, chunk_bytes=1024)
    assert store.path(ref).read_bytes() == b"theta" * 1000


def test_a_blob_takes_no_room_of_its_own(store: BlobStore, tmp_path: Path) -> None:
    path = file(tmp_path, "theta")
    assert store.path(store.add(path)).stat().st_ino == path.stat().st_ino


def test_a_blob_stays_when_the_file_is_written_anew(store: BlobStore, tmp_path: Path) -> None:
    path = file(tmp_path, "theta")
    ref = store.add(path)
    file(tmp_path, "new", b"other").replace(path)
    assert store.path(ref).read_bytes() == b"theta" * 1000


def test_a_file_system_without_hard_links_gets_a_copy(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(_source: object, _target: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    ref = store.add(file(tmp_path, "theta"))
    assert store.path(ref).read_bytes() == b"theta" * 1000


def test_the_same_content_is_one_blob(store: BlobStore, tmp_path: Path) -> None:
    assert store.add(file(tmp_path, "one")) == store.add(file(tmp_path, "two"))
    assert len(list((tmp_path / "blobs").iterdir())) == 1


def test_what_a_crash_left_half_way_is_no_obstacle(store: BlobStore, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"theta" * 1000).hexdigest()
    file(tmp_path / "blobs", f".{digest}.tmp", b"the")
    ref = store.add(file(tmp_path, "theta"))
    assert store.path(ref).stat().st_size == 5000


def test_a_blob_that_is_gone_or_damaged_is_an_error(store: BlobStore, tmp_path: Path) -> None:
    ref = store.add(file(tmp_path, "theta"))
    store.path(ref).unlink()
    with pytest.raises(StorageError, match="missing or damaged: restore the folder"):
        store.path(ref)
    file(tmp_path / "blobs", ref.digest, b"short")
    with pytest.raises(StorageError, match="missing or damaged"):
        store.path(ref)


def test_a_removed_blob_leaves_the_file_it_came_from(store: BlobStore, tmp_path: Path) -> None:
    path = file(tmp_path, "theta")
    ref = store.add(path)
    store.remove(ref)
    store.remove(ref)
    assert path.exists()
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_sweep_keeps_what_is_named(store: BlobStore, tmp_path: Path) -> None:
    kept, other = store.add(file(tmp_path, "one")), store.add(file(tmp_path, "two", b"two"))
    file(tmp_path / "blobs", ".half.tmp")
    store.sweep([kept])
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [kept.digest]
    with pytest.raises(StorageError):
        store.path(other)
