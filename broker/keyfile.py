"""Private keys in files: 32 random bytes as hexadecimal digits, readable by their owner alone.

Any 32 bytes are a private key of Ed25519 (RFC 8032) and of X25519 (RFC 7748).
"""

import logging
import os
import secrets
from pathlib import Path

from host.errors import ConfigError, StorageError
from host.files import write_secret

KEY_BYTES = 32
MAX_FILE_BYTES = 256

log = logging.getLogger(__name__)


def read_or_make(path: Path, name: str, cure: str) -> bytes:
    """The key in a file, which is made when there is none; `name` and `cure` are for who reads an error.

    Raises ConfigError for a file that holds no key, StorageError where none can be made.
    """
    if not path.exists():
        make(path, name)
    return _read(path, name, cure)


def make(path: Path, name: str) -> None:
    """Put a new key in place, whole; one that another process made meanwhile stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, secrets.token_hex(KEY_BYTES).encode())
    except FileExistsError:
        return
    except OSError as error:
        raise StorageError(f"{name} {path} cannot be made: {error}; see folder") from None


def _read(path: Path, name: str, cure: str) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES)
            others = os.fstat(file.fileno()).st_mode & 0o077
        key = bytes.fromhex(text.decode("ascii"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no key"
        raise ConfigError(f"{name} {path} cannot be used: {why}; {cure}") from None
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{name} {path} cannot be used: it holds no key; {cure}")
    if others:
        log.warning("%s %s can be read by others: chmod 600 %s", name, path, path)
    return key
