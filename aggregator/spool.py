"""The spool: updates on disk, complete and synced before their device gets a receipt.

    <spool>/<run>/<round>/<device>.update             accepted
    <spool>/<run>/<round>/<device>.<transfer>[.*]     on its way in

Which of them count, the ledger says: after a crash a file may lie here that was never committed.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from broker.messages import BlobRef
from broker.partfile import PartFile
from host.errors import StorageError
from host.files import publish_file, sync_file, sync_folder

# Left free on the disk for the ledger, the next theta and the logs.
RESERVE_BYTES = 64 << 20
BLOCK_BYTES = 512


class Spool:
    """The updates below `folder`, in sum at most `limit_bytes`."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._folder.mkdir(parents=True, exist_ok=True)

    def path(self, run: str, round_: int, device: str) -> Path:
        """Where the device's accepted update lies."""
        return self._round(run, round_) / f"{device}.update"

    def part(self, run: str, round_: int, device: str, ref: BlobRef) -> PartFile:
        """An update on its way in, with what has arrived of it."""
        return PartFile(self.incoming(run, round_, device, ref), ref)

    def incoming(self, run: str, round_: int, device: str, ref: BlobRef) -> Path:
        """Where the PartFile of this upload belongs; what came of the device's other uploads is removed."""
        folder = self._round(run, round_)
        _make_folder(folder)
        name = f"{device}.{ref.transfer}"
        for other in folder.glob(f"{device}.*"):
            if other.name != f"{device}.update" and not other.name.startswith(name):
                other.unlink()
        return folder / name

    def accept(self, incoming: Path, run: str, round_: int, device: str) -> Path:
        """Make a finished and verified upload the device's update; on return it survives a power cut."""
        path = self.path(run, round_, device)
        try:
            sync_file(incoming)
            publish_file(incoming, path)
        except OSError as error:
            raise StorageError(f"cannot keep the update {path}: {error}; check the disk") from error
        return path

    def sweep(self, keep: Collection[tuple[str, int]]) -> None:
        """Remove what earlier processes left and nobody needs any more: all but the rounds in `keep`."""
        runs, rounds = {run for run, _ in keep}, {(run, str(number)) for run, number in keep}
        for run in self._folder.iterdir():
            if run.name not in runs:
                _remove(run)
                continue
            for folder in run.iterdir():
                if (run.name, folder.name) not in rounds:
                    _remove(folder)

    def room_for(self, size: int) -> bool:
        """Whether an update of `size` bytes fits the limit, with all that is on its way."""
        return sum(status.st_size for status in self._sizes()) + size <= self._limit_bytes

    def disk_has(self, size: int) -> bool:
        """Whether an update of `size` bytes fits the disk, with all that is on its way."""
        sizes = self._sizes()
        promised = sum(max(0, status.st_size - status.st_blocks * BLOCK_BYTES) for status in sizes)
        return size <= shutil.disk_usage(self._folder).free - promised - RESERVE_BYTES

    def _round(self, run: str, round_: int) -> Path:
        return self._folder / run / str(round_)

    def _sizes(self) -> Iterator[os.stat_result]:
        for path in self._folder.glob("*/*/*"):
            # A file may be renamed or swept away while we look.
            with contextlib.suppress(FileNotFoundError):
                yield path.stat()


def _make_folder(folder: Path) -> None:
    """Make a round's folder, and its run's, so that their names survive a power cut."""
    for made in (folder.parent, folder):
        if not made.is_dir():
            made.mkdir()
            sync_folder(made.parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
