import os
from pathlib import Path

import pytest

from aggregator.spool import RESERVE_BYTES, Spool
from broker.messages import BlobRef
from broker.partfile import PartFile
from host.errors import StorageError

FIRST = BlobRef(digest="a" * 64, size=10, chunk_bytes=1024)
SECOND = BlobRef(digest="b" * 64, size=10, chunk_bytes=1024)
LIMIT = 1 << 30


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", LIMIT)


def put(spool: Spool, device: str, run: str = "run", round_: int = 1, content: bytes = b"update") -> Path:
    incoming = spool.incoming(run, round_, device, FIRST)
    incoming.write_bytes(content)
    return spool.accept(incoming, run, round_, device)


def test_an_accepted_update_lies_where_it_is_looked_for(spool: Spool) -> None:
    accepted = put(spool, "pi-1")
    assert accepted == spool.path("run", 1, "pi-1")
    assert accepted.read_bytes() == b"update"
    assert [path.name for path in accepted.parent.iterdir()] == ["pi-1.update"]


def test_accepting_again_replaces_the_update(spool: Spool) -> None:
    put(spool, "pi-1")
    assert put(spool, "pi-1", content=b"again").read_bytes() == b"again"


def test_accepting_what_is_not_there_is_an_error_that_names_the_file(spool: Spool) -> None:
    with pytest.raises(StorageError, match=r"pi-1\.update"):
        spool.accept(spool.incoming("run", 1, "pi-1", FIRST), "run", 1, "pi-1")


def test_an_interrupted_upload_is_found_again(spool: Spool) -> None:
    ref = BlobRef(digest="a" * 64, size=2048, chunk_bytes=1024)
    part = PartFile(spool.incoming("run", 1, "pi-1", ref), ref)
    part.write(1, bytes(1024))
    again = PartFile(spool.incoming("run", 1, "pi-1", ref), ref)
    assert again.missing(9) == [0]


def test_a_devices_other_upload_is_removed_and_nothing_else(spool: Spool) -> None:
    accepted = put(spool, "pi-1")
    other_device = spool.incoming("run", 1, "pi-10", FIRST)
    other_device.write_bytes(b"")
    ref = BlobRef(digest="a" * 64, size=2048, chunk_bytes=1024)
    PartFile(spool.incoming("run", 1, "pi-1", ref), ref).write(1, bytes(1024))
    assert len(list(accepted.parent.iterdir())) == 4
    spool.incoming("run", 1, "pi-1", SECOND)
    left = set(accepted.parent.iterdir())
    assert left == {accepted, other_device}


def test_a_sweep_keeps_the_rounds_whose_updates_are_carried(spool: Spool) -> None:
    swept, kept = put(spool, "pi-1"), [put(spool, "pi-1", round_=2), put(spool, "pi-2", round_=3)]
    spool.sweep([("run", 2), ("run", 3)])
    assert not swept.exists()
    assert all(path.exists() for path in kept)


def test_a_sweep_keeps_the_open_round_with_its_unfinished_uploads(spool: Spool, tmp_path: Path) -> None:
    kept = put(spool, "pi-1", round_=2)
    part = spool.incoming("run", 2, "pi-2", FIRST)
    part.write_bytes(b"unfinished")
    put(spool, "pi-1", round_=1)
    put(spool, "pi-1", run="other")
    (tmp_path / "spool" / "stray").write_bytes(b"")
    spool.sweep([("run", 2)])
    files = {path for path in (tmp_path / "spool").rglob("*") if path.is_file()}
    assert files == {kept, part}


@pytest.mark.parametrize("keep", [[], [("gone", 3)]], ids=["nothing", "what is gone"])
def test_a_sweep_without_an_open_round_empties_the_spool(
    spool: Spool, tmp_path: Path, keep: list[tuple[str, int]]
) -> None:
    put(spool, "pi-1")
    spool.sweep(keep)
    assert list((tmp_path / "spool").iterdir()) == []


def test_room_is_bounded_by_the_limit_over_all_rounds(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", limit_bytes=100)
    put(spool, "pi-1", content=bytes(30))
    put(spool, "pi-1", round_=2, content=bytes(30))
    assert spool.room_for(40)
    assert not spool.room_for(41)


def test_room_is_bounded_by_the_free_disk_and_by_what_is_on_its_way(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", limit_bytes=1 << 60)
    status = os.statvfs(tmp_path)
    free = status.f_bavail * status.f_frsize - RESERVE_BYTES
    slack = 16 << 20
    assert spool.disk_has(free - slack)
    assert not spool.disk_has(free + slack)
    with spool.incoming("run", 1, "pi-1", FIRST).open("wb") as file:
        file.truncate(free // 2)
    assert not spool.disk_has(free - slack)
