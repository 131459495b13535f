"""Envelopes: what a device says to the aggregator alone, sealed to its key and signed with the device's own.

The seal and the signature are both for one full topic, which names federation and device; the seal is for the
device's public key too, so that nobody can put another signature under it.
"""

from pathlib import Path
from typing import TypeVar

from pydantic import Field

from broker.keyfile import read_or_make
from broker.messages import MAX_SEALED_BYTES, Message
from broker.names import PublicKey
from broker.sealing import SealingKey, seal
from broker.signing import SIGNATURE_BYTES
from broker.wire import decode, encode
from host.errors import ForgeryError

DOMAIN = b"midge envelope 1"
CURE = "remove it, and have the aggregator's operator put the new key under device_keys"
M = TypeVar("M", bound=Message)


class Envelope(Message):
    """An encoded message of a device, sealed to the aggregator's key, and the device's signature of that."""

    device_key: PublicKey
    sealed: bytes = Field(max_length=MAX_SEALED_BYTES)
    signature: bytes = Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)


class DeviceKey:
    """A device's private key, in a file for its owner alone; made when there is none.

    Ed25519 (RFC 8032). Raises ConfigError for a file that holds no key, StorageError where none can be made.
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        self._key = Ed25519PrivateKey.from_private_bytes(read_or_make(path, "device key", CURE))

    @property
    def public_key(self) -> str:
        """By which the aggregator knows the device: 64 hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def enclose(self, topic: str, message: Message, sealing_key: str) -> bytes:
        """The payload for this full topic; raises SealError when `sealing_key` is no key."""
        own = self.public_key
        sealed = seal(encode(message), sealing_key, _context(topic, own))
        signature = self._key.sign(_covered(topic, sealed))
        return encode(Envelope(device_key=own, sealed=sealed, signature=signature))


def disclose(kind: type[M], topic: str, payload: bytes, key: SealingKey) -> tuple[str, M]:
    """The device's public key and what it enclosed for this topic; whose key that is, the caller must know.

    Raises ForgeryError unless the owner of that key signed it for this topic, SealError when it does not
    open, WireError where it holds no `kind`. What is not signed is not opened.
    """
    envelope = decode(Envelope, payload)
    _verify(topic, envelope)
    plain = key.open(envelope.sealed, _context(topic, envelope.device_key))
    return envelope.device_key, decode(kind, plain)


def _verify(topic: str, envelope: Envelope) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(envelope.device_key))
        key.verify(envelope.signature, _covered(topic, envelope.sealed))
    except (InvalidSignature, ValueError):
        raise ForgeryError("its signature is wrong, or is for another topic") from None


# A topic holds no NUL, so no two pairs of topic and content read the same.
def _covered(topic: str, sealed: bytes) -> bytes:
    return b"\0".join((DOMAIN, topic.encode(), sealed))


def _context(topic: str, device_key: str) -> bytes:
    return b"\0".join((DOMAIN, topic.encode(), device_key.encode()))
