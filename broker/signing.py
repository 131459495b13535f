"""Signed announcements: a device that was given the aggregator's public key obeys nobody else.

Ed25519 (RFC 8032, https://www.rfc-editor.org/rfc/rfc8032); keys are 32 bytes, written as 64 hexadecimal
digits. `cryptography` is loaded when a key is first used: a device without one is spared its memory.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from broker.messages import Announcement, SignedAnnouncement
from broker.wire import decode, encode
from host.errors import ConfigError, ForgeryError, StorageError
from host.files import write_secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# No other use of the key signs anything that begins like this.
DOMAIN = b"midge announcement 1"
MAX_FILE_BYTES = 256

log = logging.getLogger(__name__)


class Signer:
    """The aggregator's private key, in a file for its owner alone; made when there is none.

    Raises ConfigError for a file that holds no key, StorageError where none can be made.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            _make(path)
        self._key = _load(path)

    @property
    def public_key(self) -> str:
        """What devices pin: 64 hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def seal(self, topic: str, announcement: Announcement) -> bytes:
        """The payload for this full topic, and for no other."""
        content = encode(announcement)
        signature = self._key.sign(_covered(topic, content))
        return encode(SignedAnnouncement(announcement=content, signature=signature))


def unseal(topic: str, payload: bytes, aggregator_key: str | None) -> Announcement:
    """Read an announcement that came on `topic`; without a key, whoever wrote it.

    Raises ForgeryError unless the owner of `aggregator_key` signed it for this topic, WireError where it is
    no announcement. What is not signed is not even decoded.
    """
    sealed = decode(SignedAnnouncement, payload)
    if aggregator_key is not None:
        _verify(aggregator_key, _covered(topic, sealed.announcement), sealed.signature)
    return decode(Announcement, sealed.announcement)


def _covered(topic: str, content: bytes) -> bytes:
    # A topic holds no NUL, so no two pairs of topic and content read the same.
    return b"\0".join((DOMAIN, topic.encode(), content))


def _verify(public_key: str, covered: bytes, signature: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, covered)
    except (InvalidSignature, ValueError):
        raise ForgeryError(
            f"it is not signed with the pinned aggregator_key {public_key[:8]}...; if the aggregator has "
            "another key (midge-aggregator key), pin that one, or else somebody forges announcements"
        ) from None


def _load(path: Path) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES)
            others = os.fstat(file.fileno()).st_mode & 0o077
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text.decode("ascii")))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no key"
        raise ConfigError(
            f"signing key {path} cannot be used: {why}; restore it from a backup, or remove it and pin the "
            "new key on every device"
        ) from None
    if others:
        log.warning("signing key %s can be read by others: chmod 600 %s", path, path)
    return key


def _make(path: Path) -> None:
    """Put a new key in place, whole; one that another process made meanwhile stays."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_secret(path, Ed25519PrivateKey.generate().private_bytes_raw().hex().encode())
    except FileExistsError:
        return
    except OSError as error:
        raise StorageError(f"signing key {path} cannot be made: {error}; see folder") from None
