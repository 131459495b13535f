import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.files import (
    READ_BLOCK_BYTES,
    file_digest,
    publish_file,
    replace_file,
    sync_file,
    write_atomic,
    write_secret,
)


def test_a_file_is_written_whole_from_bytes_or_parts(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"one")
    write_atomic(tmp_path / "b", iter([b"one", b"", b"two"]))
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (tmp_path / "b").read_bytes() == b"onetwo"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def _failing_parts() -> Iterator[bytes]:
    yield b"half of it"
    raise OSError(errno.ENOSPC, "no space")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, _failing_parts())
    assert path.read_bytes() == b"old"


def test_the_leftover_of_a_failed_write_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".state.tmp").write_bytes(b"a longer leftover of an earlier crash")
    write_atomic(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"new"


def test_the_content_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    seen: list[tuple[str, bool]] = []
    real = os.fsync

    def watch(descriptor: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"  # noqa: PTH112 - a descriptor
        seen.append((kind, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_atomic(path, b"x")
    assert seen == [("file", False), ("folder", True)]


def test_publishing_moves_a_file_into_its_place(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"x")
    sync_file(tmp_path / "part")
    publish_file(tmp_path / "part", tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("size", [0, 1, READ_BLOCK_BYTES, READ_BLOCK_BYTES + 1])
def test_the_digest_is_the_contents_sha256(tmp_path: Path, size: int) -> None:
    content = bytes(size)
    (tmp_path / "x").write_bytes(content)
    assert file_digest(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_a_secret_is_for_its_owner_alone_and_never_replaced(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", b"one")
    with pytest.raises(FileExistsError):
        write_secret(tmp_path / "key", b"two")
    assert (tmp_path / "key").read_bytes() == b"one"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_mode_is_that_of_the_new_file(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        write_atomic(tmp_path / "file", content, mode=0o640)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_file_in_the_place_of_another_is_for_whom_that_one_was(tmp_path: Path) -> None:
    path, group = tmp_path / "file", 65_534 if os.geteuid() == 0 else os.getegid()
    path.write_bytes(b"before")
    os.chown(path, -1, group)
    for before, most, after in ((0o640, 0o644, 0o640), (0o644, 0o640, 0o640), (0o600, 0o644, 0o600)):
        path.chmod(before)
        replace_file(path, b"after", most)
        assert (path.read_bytes(), path.stat().st_mode & 0o777, path.stat().st_gid) == (
            b"after",
            after,
            group,
        )
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none", b"", 0o644)
