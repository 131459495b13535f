"""The state folder: what the agent knows after a power cut, and the files it works with.

lock                          held while an agent runs
state.json                    the Snapshot
paused.json                   the owner's pause, see `pausing`
certificates.json, certificates/, token.password    see `identity` and `enrolling`
update-<transfer>.update      the pending update
training.update               an update being written by the trainer
optimizer-<run>.state         the optimizer's state, where a task keeps it
blobs/<digest>                whole blobs; beside them, those that are still arriving
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from broker.messages import BlobRef
from broker.partfile import PartFile
from edge_agent.snapshot import Snapshot
from host.errors import StorageError
from host.files import file_digest, publish_file, sync_file, write_atomic

STATE = "state.json"
MAX_STATE_BYTES = 256 << 10
# What a download leaves free, for our state, an update, and all else that lives on the disk.
SPARE_BYTES = 32 << 20
log = logging.getLogger(__name__)


class FolderInUseError(StorageError):
    """Another agent runs with this state folder."""


class Store:
    """One agent's folder, locked for as long as it is open; raises StorageError when it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state = folder / STATE
        self._blobs = folder / "blobs"
        self.new_update = folder / "training.update"
        try:
            self._blobs.mkdir(parents=True, exist_ok=True)
            # Not for writing, so that an existing one can be locked on a read-only disk too.
            self._lock = os.fdopen(os.open(folder / "lock", os.O_RDONLY | os.O_CREAT, 0o644))
        except OSError as error:
            raise StorageError(
                f"state folder {folder} cannot be used: {error.strerror}; see state_folder"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise FolderInUseError(
                f"state folder {folder} belongs to an agent that runs: stop it, or set another state_folder"
            ) from None

    def close(self) -> None:
        """Let another agent have the folder."""
        self._lock.close()

    def load(self) -> Snapshot:
        """Read the snapshot: a fresh one when there is none or it is damaged, which is then put aside."""
        snapshot = self._checked(self._read())
        pending = snapshot.pending and self._update(snapshot.pending.update.transfer)
        leftovers = [*self._folder.glob("update-*.update"), *self._folder.glob(".*.tmp"), self.new_update]
        for leftover in leftovers:
            if leftover != pending:
                # On a disk that takes nothing they stay; they are in nobody's way there.
                with contextlib.suppress(OSError):
                    leftover.unlink(missing_ok=True)
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Have the snapshot on the disk, whole."""
        try:
            write_atomic(self._state, snapshot.model_dump_json(indent=1).encode())
        except OSError as error:
            raise StorageError(f"{self._state} cannot be written: {error}; free some space") from error

    def take_update(self, chunk_bytes: int) -> BlobRef:
        """Keep what the trainer wrote under its transfer id."""
        try:
            size = self.new_update.stat().st_size
            sync_file(self.new_update)
            ref = BlobRef(digest=file_digest(self.new_update), size=size, chunk_bytes=chunk_bytes)
            publish_file(self.new_update, self._update(ref.transfer))
        except (OSError, ValidationError) as error:
            raise StorageError(f"the trainer's update {self.new_update} is no use: {error}") from error
        return ref

    def read_chunk(self, update: BlobRef, index: int) -> bytes:
        """Read one chunk of an update: `chunk_bytes`, fewer at its end."""
        path = self._update(update.transfer)
        start = index * update.chunk_bytes
        length = min(update.chunk_bytes, update.size - start)
        try:
            with path.open("rb") as file:
                file.seek(start)
                chunk = file.read(length)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error}") from error
        if len(chunk) != length:
            raise StorageError(f"{path} ends before its chunk {index}")
        return chunk

    def delete_update(self, transfer: str) -> None:
        """Remove the file of an update."""
        with contextlib.suppress(OSError):
            self._update(transfer).unlink(missing_ok=True)

    def blob(self, ref: BlobRef) -> Path:
        """Where a blob belongs, whether it is there or not."""
        return self._blobs / ref.digest

    def part(self, ref: BlobRef) -> PartFile:
        """A blob on its way in, with what has arrived of it."""
        return PartFile(self.blob(ref), ref)

    def has_blob(self, ref: BlobRef) -> bool:
        """Whether it is there; its digest was checked before it got its name."""
        try:
            return self.blob(ref).stat().st_size == ref.size
        except OSError:
            return False

    def keep_blobs(self, refs: Iterable[BlobRef]) -> None:
        """Delete all other blobs, also those that were still arriving."""
        kept = {ref.digest for ref in refs}
        for path in self._blobs.iterdir():
            if path.name.partition(".")[0] not in kept:
                path.unlink(missing_ok=True)

    def check_room(self, refs: Iterable[BlobRef]) -> None:
        """Raise StorageError when what is still to come of the kept blobs would fill the disk."""
        here = sum(512 * path.stat().st_blocks for path in self._blobs.iterdir())
        needed = sum(ref.size for ref in refs) - here
        disk = os.statvfs(self._blobs)
        free = disk.f_bavail * disk.f_frsize
        if needed > 0 and needed + SPARE_BYTES > free:
            raise StorageError(
                f"the round's blobs need {needed >> 20} MiB and {SPARE_BYTES >> 20} MiB to spare, "
                f"{self._blobs} has {free >> 20} MiB free: free some space, or move state_folder"
            )

    def optimizer_state(self, run: str) -> Path:
        """Where the optimizer's state of a run belongs; that of any other run is deleted."""
        path = self._folder / f"optimizer-{run}.state"
        for other in self._folder.glob("optimizer-*.state"):
            if other != path:
                other.unlink(missing_ok=True)
        return path

    def _update(self, transfer: str) -> Path:
        return self._folder / f"update-{transfer}.update"

    def _read(self) -> Snapshot:
        try:
            return peek(self._folder)
        except ValidationError as error:
            aside = self._state.with_name(f"{self._state.name}.damaged")
            with contextlib.suppress(OSError):
                self._state.replace(aside)
            fault = error.errors(include_url=False)[0]
            log.warning("state file is damaged (%s), put aside as %s: starting fresh", fault["msg"], aside)
            return Snapshot()

    def _checked(self, snapshot: Snapshot) -> Snapshot:
        """Drop a pending update whose file is not there."""
        pending = snapshot.pending
        if pending is None:
            return snapshot
        path = self._update(pending.update.transfer)
        with contextlib.suppress(OSError):
            if path.stat().st_size == pending.update.size:
                return snapshot
        log.warning("update of round %s is gone from %s: nothing is offered", pending.round, path)
        return snapshot.model_copy(update={"pending": None})


def is_in_use(folder: Path) -> bool:
    """Whether an agent runs with this folder."""
    with contextlib.suppress(OSError), (folder / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def peek(folder: Path) -> Snapshot:
    """Look at the snapshot of an agent that may run; raises StorageError, ValidationError where damaged."""
    path = folder / STATE
    try:
        with path.open("rb") as file:
            return Snapshot.model_validate_json(file.read(MAX_STATE_BYTES))
    except FileNotFoundError:
        return Snapshot()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error}; look at the disk's health") from error
