"""Files that are whole or absent: written under a temporary name, synced, renamed."""

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from host.errors import NoRoomError

# The most that others than a secret's owner may: a service of the file's group reads it.
SECRET_MODE, OPEN_MODE = 0o640, 0o644
READ_BLOCK_BYTES = 1 << 20
# Full; over a quota; beyond the largest file allowed; remounted read-only; failing.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


def write_atomic(
    path: Path,
    parts: bytes | Iterable[bytes],
    mode: int | None = None,
    owner: tuple[int, int] | None = None,
) -> None:
    """Put `parts` at `path` so that a power cut leaves the old file or the new one; a full disk, the old.

    `mode` and `owner` (user and group) are set before anything is written; without them, the process decides.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            for part in (parts,) if isinstance(parts, bytes) else parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        publish_file(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Put a file in the place of another, for those who could read that one; raises OSError.

    `mode` is the most that it allows: a service reads a key of root's as a member of the file's group.
    """
    before = path.stat()
    kept = stat.S_IMODE(before.st_mode) & mode
    write_atomic(path, content, mode=kept, owner=(before.st_uid, before.st_gid))


def write_secret(path: Path, secret: bytes) -> None:
    """Put a new file at `path` for its owner alone; raises FileExistsError where there is one."""
    # It makes files that only their owner reads.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
        path.hardlink_to(file.name)
    sync_folder(path.parent)


def publish_file(temporary: Path, path: Path) -> None:
    """Rename a finished and synced file into place, and sync its folder."""
    temporary.replace(path)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Wait until the content of `path` is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Wait for other processes that change files of this folder, and have them wait meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits, in bounded memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def is_no_room(error: BaseException | None) -> bool:
    """Whether a disk that takes no more for now is behind this error."""
    while error is not None:
        if isinstance(error, NoRoomError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
            return True
        error = error.__cause__
    return False


def says_no_room(text: str) -> bool:
    """Whether what a child process complains of is such a disk."""
    return any(os.strerror(code) in text for code in NO_ROOM)
