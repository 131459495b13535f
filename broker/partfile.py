"""A file that arrives in chunks, in any order, and survives a crash in between.

    <path>.part    the chunks in their places; holes where they are missing
    <path>.map     header: magic, digest, size, chunk size; then a byte a chunk, 1 when it is in place

A chunk's byte is written after the chunk. Nothing is synced before `finish` (SD cards wear out); what a power
cut tears apart is caught by the digest, and the file is fetched anew.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.messages import BlobRef
from host.errors import StorageError, WireError
from host.files import file_digest, publish_file, sync_file

MAGIC = b"midgmap1"
_HEADER = struct.Struct("<8s32sQI")
_PRESENT = b"\x01"
_ABSENT = b"\x00"


class PartFile:
    """The blob `ref` on its way to `path`; what an earlier process received of it is kept."""

    def __init__(self, path: Path, ref: BlobRef) -> None:
        self._path = path
        self._ref = ref
        self._part = path.with_name(f"{path.name}.part")
        self._map = path.with_name(f"{path.name}.map")
        self._header = _HEADER.pack(MAGIC, bytes.fromhex(ref.digest), ref.size, ref.chunk_bytes)
        self._present = self._resume() or bytearray(ref.chunks)
        self.received = self._present.count(_PRESENT)

    @property
    def complete(self) -> bool:
        """Whether every chunk is in place."""
        return self.received == self._ref.chunks

    @property
    def bitmap(self) -> bytes:
        """A byte a chunk: 1 when it is in place, else 0."""
        return bytes(self._present)

    def missing(self, limit: int) -> list[int]:
        """List the first `limit` chunks that are not in place."""
        indexes: list[int] = []
        index = self._present.find(_ABSENT)
        while index >= 0 and len(indexes) < limit:
            indexes.append(index)
            index = self._present.find(_ABSENT, index + 1)
        return indexes

    def write(self, index: int, data: bytes) -> bool:
        """Put a chunk into its place; False for a duplicate.

        Raises WireError when index or length do not fit the blob, StorageError when the disk refuses.
        """
        if not 0 <= index < self._ref.chunks:
            raise WireError(f"chunk {index} of a blob with {self._ref.chunks} chunks")
        start = index * self._ref.chunk_bytes
        expected = min(self._ref.chunk_bytes, self._ref.size - start)
        if len(data) != expected:
            raise WireError(f"chunk {index} has {len(data)} bytes, {expected} were expected")
        if self._present[index]:
            return False
        with self._disk("written"):
            self._begin()
            _write_at(self._part, start, data)
            _write_at(self._map, _HEADER.size + index, _PRESENT)
        self._present[index] = 1
        self.received += 1
        return True

    def finish(self) -> Path:
        """Check the digest and move the file to its path, which is returned.

        Raises WireError when the content is not what the digest names; all of it is then discarded.
        """
        if not self.complete:
            raise ValueError(f"{self._ref.chunks - self.received} chunks of {self._path} are missing")
        with self._disk("finished"):
            sync_file(self._part)
            if (digest := file_digest(self._part)) != self._ref.digest:
                self.discard()
                raise WireError(f"blob {self._ref.digest} arrived with digest {digest}; it is fetched anew")
            publish_file(self._part, self._path)
            self._map.unlink(missing_ok=True)
        return self._path

    def discard(self) -> None:
        """Remove both files; what is written next starts anew."""
        with self._disk("removed"):
            self._map.unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)
        self._present = bytearray(self._ref.chunks)
        self.received = 0

    def _resume(self) -> bytearray | None:
        """Read the map of an earlier process; None when it is of another blob, or damaged."""
        with self._disk("read"):
            if not (self._map.exists() and self._part.exists()):
                return None
            if self._map.stat().st_size != _HEADER.size + self._ref.chunks:
                return None
            content = self._map.read_bytes()
            part_bytes = self._part.stat().st_size
        present = bytearray(content[_HEADER.size :])
        claimed = min((present.rfind(_PRESENT) + 1) * self._ref.chunk_bytes, self._ref.size)
        sound = content.startswith(self._header) and not present.strip(_PRESENT + _ABSENT)
        return present if sound and claimed <= part_bytes <= self._ref.size else None

    def _begin(self) -> None:
        """Make both files before the first chunk: the map with all chunks absent, the part empty."""
        if self.received == 0:
            self._part.write_bytes(b"")
            self._map.write_bytes(self._header + bytes(self._ref.chunks))

    @contextmanager
    def _disk(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            advice = "look at the disk's free space and health"
            raise StorageError(f"{self._part} could not be {verb}: {error}; {advice}") from error


def _write_at(path: Path, start: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, start)
            view, start = view[written:], start + written
    finally:
        os.close(descriptor)
