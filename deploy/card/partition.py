"""The boot partition of a card: a mounted folder, or the first partition of an image file."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from host.errors import ConfigError, NoRoomError, StorageError
from host.files import is_no_room

# What is written, or where it is copied from.
Content = bytes | Path
Progress = Callable[[int], None]
BLOCK_BYTES = 1 << 20


class Partition(Protocol):
    """Names are relative, with slashes."""

    def names(self) -> frozenset[str]:
        """What lies at the top."""

    def read(self, name: str) -> bytes:
        """A small file; raises StorageError."""

    def free_bytes(self) -> int:
        """Room that is left."""

    def write(self, name: str, content: Content, progress: Progress) -> None:
        """Put a file there, in place of an older one; raises NoRoomError, StorageError."""

    def remove(self, name: str) -> None:
        """Take away a file or a folder at the top, with all in it, if it is there."""

    def finish(self) -> None:
        """Wait until all is on the medium."""


def size(content: Content) -> int:
    """Bytes of a content."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


class MountedPartition:
    """A card's first partition, mounted somewhere."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ConfigError(f"{folder} is no folder: name where the card's boot partition is mounted")
        self._folder = folder

    def names(self) -> frozenset[str]:
        """What lies at the top."""
        return frozenset(path.name for path in self._folder.iterdir())

    def read(self, name: str) -> bytes:
        """Read a small file."""
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise self._broken(name, error) from error

    def free_bytes(self) -> int:
        """Room that is left."""
        return shutil.disk_usage(self._folder).free

    def write(self, name: str, content: Content, progress: Progress) -> None:
        """Put a file there."""
        target = self._folder / PurePosixPath(name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                for block in blocks(content):
                    file.write(block)
                    progress(len(block))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._broken(name, error) from error

    def remove(self, name: str) -> None:
        """Take away a file or a folder."""
        target = self._folder / name
        try:
            if target.is_dir():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        except OSError as error:
            raise self._broken(name, error) from error

    def finish(self) -> None:
        """Wait for the card."""
        os.sync()

    def _broken(self, name: str, error: OSError) -> StorageError:
        where = self._folder / name
        if is_no_room(error):
            return NoRoomError(f"{where}: {error.strerror}: the card is full, locked or worn out")
        return StorageError(f"{where}: {error.strerror}")


def blocks(content: Content) -> Iterator[bytes]:
    """A content in parts; raises OSError."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
