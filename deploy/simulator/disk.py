"""Simulated disks: what was synced survives a power cut, and a power cut may come at every sync."""

import sqlite3
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

from aggregator.ledger import Ledger
from aggregator.spool import Spool
from broker.messages import BlobRef
from broker.partfile import PartFile
from deploy.simulator.clock import Clock
from edge_agent.snapshot import Snapshot
from edge_agent.store import Store
from host.errors import NoRoomError, StorageError, WireError

T = TypeVar("T")


class PowerCut(BaseException):
    """The machine, or the process, ends here and now: not an error, so that nobody handles it as one."""


class Disk:
    """What is not lost with the process; each sync is a place where the process may end, before or after."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.cuts = 0.0
        """Of syncs, those at which the power is cut."""
        self.rot = 0.0
        """Of reads, those after which a file cannot be read any more."""
        self.full_until = 0.0
        self.arriving: dict[Path, _Arriving] = {}

    def sync(self, write: Callable[[], T]) -> T:
        """Carry a write out as a whole, or not at all; raises NoRoomError."""
        self.check_room()
        if self._clock.happens(self.cuts / 2):
            raise PowerCut
        result = write()
        if self._clock.happens(self.cuts / 2):
            raise PowerCut
        return result

    @property
    def full(self) -> bool:
        """Whether nothing can be written."""
        return self._clock.now < self.full_until

    def check_room(self) -> None:
        """Raise NoRoomError while the disk is full."""
        if self.full:
            raise NoRoomError("the disk is full")

    def rots(self) -> bool:
        """Whether a file that is read now turns out to be lost."""
        return self._clock.happens(self.rot)

    def tear(self) -> None:
        """The power failed: of what was never synced, some is gone, and some is not what was written."""
        for path in sorted(self.arriving):
            fate = self._clock.chance.random()
            if fate < 1 / 3:
                del self.arriving[path]
            elif fate < 2 / 3:
                self.arriving[path].torn = any(self.arriving[path].present)


class _Arriving:
    def __init__(self, ref: BlobRef) -> None:
        self.ref = ref
        self.present = bytearray(ref.chunks)
        self.torn = False


class SimulatedPart(PartFile):
    """A file that arrives in chunks, of which only the presence is kept."""

    def __init__(self, disk: Disk, path: Path, ref: BlobRef, whole: Callable[[], object]) -> None:
        self._disk_of_all = disk
        self._whole = whole
        self._path = path
        self._ref = ref
        known = disk.arriving.get(path)
        if known is None or known.ref != ref:
            known = disk.arriving[path] = _Arriving(ref)
        self._file = known
        self._present = known.present
        self.received = self._present.count(1)

    def write(self, index: int, data: bytes) -> bool:
        """Put a chunk into its place; False for a duplicate."""
        expected = min(self._ref.chunk_bytes, self._ref.size - index * self._ref.chunk_bytes)
        if not 0 <= index < self._ref.chunks or len(data) != expected:
            raise WireError(f"chunk {index} of {len(data)} bytes")
        if self._present[index]:
            return False
        self._present[index] = 1
        self.received += 1
        return True

    def finish(self) -> Path:
        """Check the digest and let the file be whole."""
        torn = self._file.torn
        self.discard()
        if torn:
            raise WireError(f"blob {self._ref.digest} arrived with another digest; it is fetched anew")
        self._disk_of_all.sync(self._whole)
        return self._path

    def discard(self) -> None:
        """Begin anew."""
        self._disk_of_all.arriving.pop(self._path, None)
        self._file = _Arriving(self._ref)
        self._present = self._file.present
        self.received = 0


class MemoryLedger(Ledger):
    """The ledger itself, over a database in memory: every statement counts here, only the disk does not."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._path = Path("ledger")
        self._clock = clock
        # The garbage collector may close it in whichever thread it runs.
        self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._prepare()

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()


class SimulatedSpool(Spool):
    """Updates at the aggregator: which lie there whole, and which content they have."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.updates: dict[tuple[str, int, str], str] = {}
        """Digests, by run, round and device."""

    def part(self, run: str, round_: int, device: str, ref: BlobRef) -> SimulatedPart:
        """What came of this upload so far; what came of the device's other uploads is removed."""
        name = f"{device}.{ref.transfer}"
        folder = Path(run) / str(round_)
        for path in [path for path in self.disk.arriving if path.parent == folder]:
            if path.name.startswith(f"{device}.") and path.name != name:
                del self.disk.arriving[path]
        return SimulatedPart(self.disk, folder / name, ref, whole=bool)

    def keep(self, run: str, round_: int, device: str, digest: str) -> None:
        """Make a verified upload the device's update."""
        self.disk.sync(lambda: self.updates.update({(run, round_, device): digest}))

    def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        """Remove what all other rounds left."""
        for key in [key for key in self.updates if key[:2] not in keep]:
            del self.updates[key]
        for path in [*self.disk.arriving]:
            run, number = path.parent.parts
            if (run, int(number)) not in keep:
                del self.disk.arriving[path]

    def room_for(self, size: int) -> bool:
        """Whether there is room; there is."""
        return size > 0

    def disk_has(self, size: int) -> bool:
        """Whether the disk has room for this."""
        return size > 0 and not self.disk.full


class SimulatedStore(Store):
    """A device's state folder."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.kept = Snapshot()
        self._updates: dict[str, BlobRef] = {}
        self._whole: dict[str, BlobRef] = {}

    def close(self) -> None:
        """Nothing is locked."""

    def load(self) -> Snapshot:
        """Read the snapshot, and forget the updates that it does not name."""
        snapshot = self.kept
        pending = snapshot.pending
        if pending is not None and pending.update.transfer not in self._updates:
            snapshot = snapshot.model_copy(update={"pending": None})
        kept = snapshot.pending and snapshot.pending.update.transfer
        self._updates = {name: ref for name, ref in self._updates.items() if name == kept}
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Have the snapshot on the disk, whole."""

        def write() -> None:
            self.kept = snapshot

        self._disk.sync(write)

    def keep_update(self, ref: BlobRef) -> None:
        """Keep what was trained."""
        self._disk.sync(lambda: self._updates.update({ref.transfer: ref}))

    def read_chunk(self, update: BlobRef, index: int) -> bytes:
        """Read one chunk of an update."""
        if self._disk.rots():
            self._updates.pop(update.transfer, None)
        if update.transfer not in self._updates:
            raise StorageError(f"update {update.transfer} cannot be read")
        return zeros(update, index)

    def delete_update(self, transfer: str) -> None:
        """Remove an update."""
        self._updates.pop(transfer, None)

    def part(self, ref: BlobRef) -> SimulatedPart:
        """What came of a blob so far."""
        return SimulatedPart(self._disk, Path(ref.digest), ref, lambda: self._whole.update({ref.digest: ref}))

    def has_blob(self, ref: BlobRef) -> bool:
        """Whether a blob is there, whole."""
        return ref.digest in self._whole

    def keep_blobs(self, refs: Iterable[BlobRef]) -> None:
        """Delete all other blobs, also those that were still arriving."""
        kept = {ref.digest for ref in refs}
        self._whole = {digest: ref for digest, ref in self._whole.items() if digest in kept}
        for path in [path for path in self._disk.arriving if path.name not in kept]:
            del self._disk.arriving[path]

    def check_room(self, refs: Iterable[BlobRef]) -> None:
        """There is room."""


_ZEROS: dict[int, bytes] = {}


def zeros(ref: BlobRef, index: int) -> bytes:
    """A chunk's bytes: as many as it has, which are the same ones for all."""
    size = min(ref.chunk_bytes, ref.size - index * ref.chunk_bytes)
    if size not in _ZEROS:
        _ZEROS[size] = bytes(size)
    return _ZEROS[size]
