"""A real file system of a few megabytes, to be filled or made read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """A mounted file system in memory; `path` is its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave not a byte."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            for size in (1 << 16, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def empty(self) -> None:
        """Give the space back."""
        (self.path / "filler").unlink()

    def make_read_only(self) -> None:
        """As the kernel does with a card that fails."""
        _mount("-o", "remount,ro", str(self.path))

    def make_writable(self) -> None:
        _mount("-o", "remount,rw", str(self.path))


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Mount one at this folder; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder.mkdir(parents=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder))
    except subprocess.CalledProcessError:
        pytest.skip("no file system can be mounted here")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)  # noqa: S607
