"""Signed announcements: a device that was given the aggregator's public key obeys nobody else.

Ed25519 (RFC 8032, https://www.rfc-editor.org/rfc/rfc8032); keys are 32 bytes, written as 64 hexadecimal
digits. `cryptography` is loaded when a key is first used: a device without one is spared its memory.
"""

from pathlib import Path

from broker.keyfile import read_or_make
from broker.messages import Announcement, SignedAnnouncement
from broker.wire import decode, encode
from host.errors import ForgeryError

# No other use of the key signs anything that begins like this.
DOMAIN = b"midge announcement 1"
CURE = "restore it from a backup, or remove it and pin the new key on every device"


class Signer:
    """The aggregator's private key, in a file for its owner alone; made when there is none.

    Raises ConfigError for a file that holds no key, StorageError where none can be made.
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        self._key = Ed25519PrivateKey.from_private_bytes(read_or_make(path, "signing key", CURE))

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
