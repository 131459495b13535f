import contextlib
import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker.messages import MIN_CHUNK_BYTES, BlobRef
from broker.partfile import PartFile
from host.errors import StorageError, WireError

CONTENT = hashlib.shake_256(b"blob").digest(5 * MIN_CHUNK_BYTES + 7)
CHUNK = MIN_CHUNK_BYTES


def ref_of(content: bytes, chunk_bytes: int = CHUNK) -> BlobRef:
    return BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), chunk_bytes=chunk_bytes)


def chunk(index: int, content: bytes = CONTENT) -> bytes:
    return content[index * CHUNK : (index + 1) * CHUNK]


REF = ref_of(CONTENT)


class Reception(RuleBasedStateMachine):
    """Chunks in any order, duplicates, damage and crashes; `placed` is what must be in the file."""

    folder: Path

    @initialize(size=st.integers(1, 6 * CHUNK))
    def begin(self, size: int) -> None:
        self.content = hashlib.shake_256(b"blob").digest(size)
        self.ref = ref_of(self.content)
        self.path = Path(tempfile.mkdtemp(dir=self.folder)) / "blob"
        self.placed: set[int] = set()
        self.part = PartFile(self.path, self.ref)

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, self.ref.chunks - 1))
        assert self.part.write(index, chunk(index, self.content)) is (index not in self.placed)
        self.placed.add(index)

    @rule(data=st.data())
    def write_what_does_not_fit(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(-2, self.ref.chunks + 1))
        right = len(chunk(index, self.content)) if 0 <= index < self.ref.chunks else -1
        length = data.draw(st.integers(0, CHUNK + 1).filter(lambda length: length != right))
        with pytest.raises(WireError):
            self.part.write(index, bytes(length))

    @rule()
    def crash_and_reopen(self) -> None:
        self.part = PartFile(self.path, self.ref)

    @precondition(lambda self: self.part.complete)
    @rule()
    def finish(self) -> None:
        assert self.part.finish().read_bytes() == self.content
        assert list(self.path.parent.iterdir()) == [self.path]
        self.path.unlink()
        self.placed.clear()
        self.part = PartFile(self.path, self.ref)

    @invariant()
    def it_knows_what_is_missing(self) -> None:
        missing = [index for index in range(self.ref.chunks) if index not in self.placed]
        assert self.part.missing(100) == missing
        assert self.part.missing(2) == missing[:2]
        assert self.part.received == len(self.placed)
        assert self.part.complete == (not missing)
        assert self.part.bitmap == bytes(index in self.placed for index in range(self.ref.chunks))


def test_chunks_in_any_order_with_duplicates_and_crashes_make_the_file(tmp_path: Path) -> None:
    class Here(Reception):
        folder = tmp_path

    run_state_machine_as_test(Here)


def filled(path: Path, *indexes: int, ref: BlobRef = REF) -> PartFile:
    part = PartFile(path, ref)
    for index in indexes:
        part.write(index, chunk(index))
    return part


def test_the_part_of_another_blob_is_not_resumed(tmp_path: Path) -> None:
    filled(tmp_path / "blob", 0, 1)
    other = BlobRef(digest="0" * 64, size=REF.size, chunk_bytes=REF.chunk_bytes)
    assert PartFile(tmp_path / "blob", other).received == 0
    assert PartFile(tmp_path / "blob", ref_of(CONTENT, 2 * CHUNK)).received == 0


@pytest.mark.parametrize(
    "damage", ["cut map", "long map", "wrong magic", "wrong mark", "cut part", "long part"]
)
def test_damaged_files_are_not_resumed(tmp_path: Path, damage: str) -> None:
    filled(tmp_path / "blob", 0, 3)
    map_file, part_file = tmp_path / "blob.map", tmp_path / "blob.part"
    marks = map_file.read_bytes()
    match damage:
        case "cut map":
            map_file.write_bytes(marks[:-1])
        case "long map":
            map_file.write_bytes(marks + b"\x00")
        case "wrong magic":
            map_file.write_bytes(b"X" + marks[1:])
        case "wrong mark":
            map_file.write_bytes(marks[:-1] + b"\x02")
        case "cut part":
            part_file.write_bytes(part_file.read_bytes()[: 4 * CHUNK - 1])
        case "long part":
            part_file.write_bytes(bytes(REF.size + 1))
    part = PartFile(tmp_path / "blob", REF)
    assert part.received == 0
    for index in range(REF.chunks):
        part.write(index, chunk(index))
    assert part.finish().read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["blob.map", "blob.part"])
def test_one_file_without_the_other_is_not_resumed(tmp_path: Path, name: str) -> None:
    filled(tmp_path / "blob", 0)
    (tmp_path / name).unlink()
    assert PartFile(tmp_path / "blob", REF).missing(1) == [0]


@given(part=st.integers(0, len(CONTENT)), torn=st.integers(0, len(CONTENT)), marks=st.integers(0, 60))
def test_a_download_torn_by_a_power_cut_ends_with_the_right_content(
    tmp_path_factory: pytest.TempPathFactory, part: int, torn: int, marks: int
) -> None:
    """Either file may end at any byte, and what stands behind another byte may never have been written."""
    path = tmp_path_factory.mktemp("blobs") / "blob"
    before = PartFile(path, REF)
    for index in range(4):
        before.write(index, chunk(index))
    written, kept = path.with_name("blob.part"), path.with_name("blob.map")
    written.write_bytes(written.read_bytes()[:torn].ljust(4 * CHUNK, b"\0")[:part])
    kept.write_bytes(kept.read_bytes()[:marks])
    for _ in range(2):
        resumed = PartFile(path, REF)
        for index in resumed.missing(REF.chunks):
            resumed.write(index, chunk(index))
        with contextlib.suppress(WireError):
            resumed.finish()
            break
    assert path.read_bytes() == CONTENT


def test_a_wrong_digest_starts_anew(tmp_path: Path) -> None:
    part = filled(tmp_path / "blob", 1, 2, 3, 4, 5)
    part.write(0, bytes(CHUNK))
    with pytest.raises(WireError, match="arrived with digest"):
        part.finish()
    assert list(tmp_path.iterdir()) == []
    assert part.missing(100) == [0, 1, 2, 3, 4, 5]
    for index in range(REF.chunks):
        assert part.write(index, chunk(index))
    assert part.finish() == tmp_path / "blob"


def test_an_incomplete_file_is_not_finished(tmp_path: Path) -> None:
    part = filled(tmp_path / "blob", 0, 1)
    with pytest.raises(ValueError, match="4 chunks of"):
        part.finish()


def test_discard_removes_both_files(tmp_path: Path) -> None:
    part = filled(tmp_path / "blob", 0)
    part.discard()
    part.discard()
    assert list(tmp_path.iterdir()) == []
    assert part.received == 0


def test_a_large_blob_takes_no_disk_before_its_chunks_come(tmp_path: Path) -> None:
    ref = BlobRef(digest="0" * 64, size=4 << 30, chunk_bytes=1 << 20)
    part = PartFile(tmp_path / "blob", ref)
    part.write(ref.chunks - 1, bytes(1 << 20))
    assert (tmp_path / "blob.part").stat().st_size == 4 << 30
    assert (tmp_path / "blob.part").stat().st_blocks * 512 < 4 << 20


def test_a_disk_that_refuses_is_a_storage_error(tmp_path: Path) -> None:
    part = PartFile(tmp_path / "blob", REF)
    (tmp_path / "blob.part").mkdir()
    with pytest.raises(StorageError, match=r"blob\.part could not be written"):
        part.write(0, chunk(0))
    assert part.received == 0
