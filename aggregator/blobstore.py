"""Files by their digest: what the publisher reads chunks from."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from broker.messages import BlobRef
from host.errors import StorageError
from host.files import file_digest


class BlobStore:
    """A folder of files named by their SHA-256; hard links to files that a run's folder owns."""

    def __init__(self, folder: Path, chunk_bytes: int) -> None:
        self._folder = folder
        self._chunk_bytes = chunk_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, path: Path) -> BlobRef:
        """Take a file in; it must never change afterwards."""
        digest = file_digest(path)
        target = self._folder / digest
        if not target.exists():
            _link(path, target)
        return BlobRef(digest=digest, size=path.stat().st_size, chunk_bytes=self._chunk_bytes)

    def place(self, ref: BlobRef) -> Path:
        """Where the blob belongs."""
        return self._folder / ref.digest

    def restore(self, ref: BlobRef, path: Path) -> None:
        """Give a blob back to the folder that it came from."""
        _link(self.place(ref), path)

    def path(self, ref: BlobRef) -> Path:
        """Where the blob lies; raises StorageError when it is gone or of another size."""
        path = self._folder / ref.digest
        if not path.is_file() or path.stat().st_size != ref.size:
            raise StorageError(
                f"blob {path} is missing or damaged: restore the folder, or stop the run and start anew"
            )
        return path

    def sweep(self, keep: Iterable[BlobRef]) -> None:
        """Remove what earlier processes left."""
        kept = {ref.digest for ref in keep}
        for path in self._folder.iterdir():
            if path.name not in kept:
                path.unlink()

    def remove(self, ref: BlobRef) -> None:
        """Let go of a blob; the run's folder keeps its own name for the file."""
        (self._folder / ref.digest).unlink(missing_ok=True)


def _link(path: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        # Not every file system has hard links.
        shutil.copyfile(path, temporary)
    temporary.replace(target)
