"""The first partition of an image file, through GNU mtools: neither root nor a loop device is needed.

Source: https://www.gnu.org/software/mtools/manual/mtools.html
"""

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path, PurePosixPath

from deploy.card.partition import Content, Progress, blocks, size
from host.errors import ConfigError, NoRoomError, StorageError
from host.files import is_no_room

SECTOR_BYTES = 512
FIRST_ENTRY = 446
FAT_TYPES = frozenset({0x0B, 0x0C, 0x0E, 0xEF})
TOOL_TIMEOUT_S = 600
_COMPRESSED = (".xz", ".gz", ".zip", ".zst")


def fat_offset(image: Path) -> int:
    """Where an image's first partition begins, in bytes; raises ConfigError unless it is a FAT partition."""
    if image.suffix in _COMPRESSED:
        raise ConfigError(f"{image} is compressed: unpack it first, for example by unxz --keep {image.name}")
    try:
        with image.open("rb") as file:
            record = file.read(SECTOR_BYTES)
    except OSError as error:
        raise ConfigError(f"{image}: {error.strerror}; name the image of a card") from error
    if len(record) < SECTOR_BYTES or record[-2:] != b"\x55\xaa":
        raise ConfigError(f"{image} has no partition table: it is no image of a card")
    entry = struct.unpack_from("<B3sB3sII", record, FIRST_ENTRY)
    kind, first, sectors = entry[2], entry[4], entry[5]
    if kind not in FAT_TYPES or (first + sectors) * SECTOR_BYTES > image.stat().st_size:
        raise ConfigError(f"{image}: its first partition is no FAT partition that a Raspberry Pi starts from")
    return int(first) * SECTOR_BYTES


def copy_image(image: Path, copy: Path, progress: Progress) -> None:
    """Copy an image to a new file for its owner alone: a device's key will be in it.

    Raises NoRoomError, StorageError; what was copied is for the caller to remove.
    """
    try:
        copy.touch(0o600, exist_ok=False)
        with copy.open("wb") as file:
            for block in blocks(image):
                file.write(block)
                progress(len(block))
    except OSError as error:
        kind = NoRoomError if is_no_room(error) else StorageError
        raise kind(f"{copy}: {error.strerror}") from error


class ImagePartition:
    """The boot partition inside of an image file, which is changed in place."""

    def __init__(self, image: Path) -> None:
        if shutil.which("mcopy") is None:
            raise ConfigError("to write into an image takes mtools: sudo apt install mtools")
        self._image = image
        self._drive = f"{image}@@{fat_offset(image)}"
        self._folders: set[PurePosixPath] = set()

    def names(self) -> frozenset[str]:
        """What lies at the top."""
        listed = self._run("mdir", "-b", "-a", "::/").decode(errors="replace").splitlines()
        return frozenset(line.removeprefix("::/").rstrip("/") for line in listed if line.startswith("::/"))

    def read(self, name: str) -> bytes:
        """Read a small file."""
        return self._run("mtype", f"::/{name}")

    def free_bytes(self) -> int:
        """Room that is left."""
        listed = self._run("mdir", "-a", "::/").decode(errors="replace")
        found = re.search(r"([\d ]+) bytes free", listed)
        if found is None:
            raise StorageError(f"{self._image}: how much room is left cannot be told")
        return int(found[1].replace(" ", ""))

    def write(self, name: str, content: Content, progress: Progress) -> None:
        """Put a file there."""
        self._make_folders(PurePosixPath(name).parent)
        if isinstance(content, bytes):
            self._run("mcopy", "-o", "-", f"::/{name}", given=content)
        else:
            self._run("mcopy", "-o", str(content), f"::/{name}")
        progress(size(content))

    def remove(self, name: str) -> None:
        """Take away a file or a folder."""
        if name in self.names():
            self._run("mdeltree", f"::/{name}")
            self._folders.clear()

    def finish(self) -> None:
        """Wait for the disk that has the image."""
        with self._image.open("rb") as file:
            os.fsync(file.fileno())

    def _make_folders(self, folder: PurePosixPath) -> None:
        if folder.name and folder not in self._folders:
            self._make_folders(folder.parent)
            # -D s: what is there already is skipped.
            self._run("mmd", "-D", "s", f"::/{folder}", missing_is_fine=True)
            self._folders.add(folder)

    def _run(self, tool: str, *arguments: str, given: bytes = b"", missing_is_fine: bool = False) -> bytes:
        command = [tool, "-i", self._drive, *arguments]
        # The size of a Raspberry Pi's boot partition is no whole number of what mtools takes for a track.
        environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
        try:
            ended = subprocess.run(  # noqa: S603  no shell
                command,
                env=environment,
                input=given,
                capture_output=True,
                check=False,
                timeout=TOOL_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StorageError(f"{self._image}: {tool} did not work: {error}") from error
        said = ended.stderr.decode(errors="replace").strip()
        if ended.returncode == 0 or (missing_is_fine and "exists" in said):
            return ended.stdout
        if "full" in said.lower():
            raise NoRoomError(f"{self._image}: its boot partition is full")
        raise StorageError(f"{self._image}: {tool}: {said.splitlines()[-1] if said else ended.returncode}")
