"""Signed announcements: a device that was given the aggregator's public key obeys nobody else.

Ed25519 (RFC 8032, https://www.rfc-editor.org/rfc/rfc8032); keys are 32 bytes, written as 64 hexadecimal
digits. `cryptography` is loaded when a key is first used: a device without one is spared its memory.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from broker.keyfile import read_or_make
from broker.messages import Announcement, Message, Part
from broker.names import PublicKey
from broker.wire import decode, encode
from host.errors import ConfigError, ForgeryError, StorageError
from host.files import publish_file, write_atomic

# No other use of the key signs anything that begins like this.
DOMAIN = b"midge announcement 1"
SUCCESSION_DOMAIN = b"midge succession 1"
CURE = "restore it from a backup, or remove it and pin the new key on every device"
# Beside the key: who vouched for whom, a line each, and the key that is about to take its place.
CHAIN_SUFFIX, NEXT_SUFFIX = ".chain", ".next"
MAX_CHAIN_BYTES = 64 << 10
MAX_SUCCESSIONS = 16
SIGNATURE_BYTES = 64


class Succession(Part):
    """A signing key gives way to another, and signs that."""

    before: PublicKey
    after: PublicKey
    signature: bytes = Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)


class SignedAnnouncement(Message):
    """Retained: an encoded Announcement, and the aggregator's signature of it for this topic."""

    announcement: bytes
    signature: bytes = Field(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)
    successions: Annotated[tuple[Succession, ...], Field(max_length=MAX_SUCCESSIONS)] = Field(
        default=(), description="from earlier keys to the one that signed, in order; the newest of many"
    )


class Signer:
    """The aggregator's private key, in a file for its owner alone; made when there is none.

    Raises ConfigError for a file that holds no key, StorageError where none can be made.
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        self._key = Ed25519PrivateKey.from_private_bytes(read_or_make(path, "signing key", CURE))
        self._successions = read_chain(path, self.public_key)

    @property
    def public_key(self) -> str:
        """What devices pin: 64 hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def seal(self, topic: str, announcement: Announcement) -> bytes:
        """The payload for this full topic, and for no other."""
        content = encode(announcement)
        signature = self._key.sign(_covered(topic, content))
        return encode(
            SignedAnnouncement(announcement=content, signature=signature, successions=self._successions)
        )

    def vouch(self, topic: str, after: str) -> Succession:
        """Name the key that signs announcements on this full topic from now on."""
        covered = _succession(topic, self.public_key, after)
        return Succession(before=self.public_key, after=after, signature=self._key.sign(covered))


def unseal(topic: str, payload: bytes, aggregator_key: str | None) -> Announcement:
    """Read an announcement that came on `topic`; without a key, whoever wrote it.

    Raises ForgeryError unless the owner of `aggregator_key`, or of a key that follows it, signed it for this
    topic, WireError where it is no announcement. What is not signed is not even decoded.
    """
    sealed = decode(SignedAnnouncement, payload)
    if aggregator_key is not None:
        key = follow(topic, aggregator_key, sealed.successions)
        _verify(key, _covered(topic, sealed.announcement), sealed.signature)
    return decode(Announcement, sealed.announcement)


def follow(topic: str, key: str, successions: Iterable[Succession]) -> str:
    """The last key that one vouched for, directly or through others; itself where it named none.

    Raises ForgeryError where one that it should have signed is not signed.
    """
    for one in successions:
        if one.before == key:
            _verify(key, _succession(topic, one.before, one.after), one.signature)
            key = one.after
    return key


def successor(topic: str, payload: bytes, key: str) -> str:
    """The key that an announcement on this topic says has followed; raises as `unseal` does."""
    return follow(topic, key, decode(SignedAnnouncement, payload).successions)


def read_chain(key_file: Path, public_key: str) -> tuple[Succession, ...]:
    """The successions that led to this key, of the file beside it; raises ConfigError."""
    path = key_file.with_suffix(CHAIN_SUFFIX)
    if not path.exists():
        return ()
    try:
        with path.open("rb") as file:
            chain = [_parsed(line) for line in file.read(MAX_CHAIN_BYTES).decode().splitlines()]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no successions"
        raise ConfigError(f"{path} cannot be used: {why}; restore it from a backup") from None
    ends = [place for place, one in enumerate(chain, 1) if one.after == public_key]
    return tuple(chain[: ends[-1]][-MAX_SUCCESSIONS:]) if ends else ()


def succeed(key_file: Path, topic: str) -> tuple[str, str]:
    """Put another key in place of this one, which vouches for it; both public keys, the old one first.

    Done again after a power cut, it ends with one new key. Raises ConfigError, StorageError.
    """
    old, coming = Signer(key_file), key_file.with_suffix(NEXT_SUFFIX)
    new = Signer(coming)
    chain = (*read_chain(key_file, old.public_key), old.vouch(topic, new.public_key))
    owner = key_file.stat()
    try:
        lines = [f"{one.before} {one.after} {one.signature.hex()}\n" for one in chain[-MAX_SUCCESSIONS:]]
        write_atomic(key_file.with_suffix(CHAIN_SUFFIX), "".join(lines).encode())
        for path in (coming, key_file.with_suffix(CHAIN_SUFFIX)):
            os.chown(path, owner.st_uid, owner.st_gid)
        publish_file(coming, key_file)
    except OSError as error:
        raise StorageError(f"signing key {key_file} cannot be changed: {error}; it is as it was") from None
    return old.public_key, new.public_key


def _covered(topic: str, content: bytes) -> bytes:
    # A topic holds no NUL, so no two pairs of topic and content read the same.
    return b"\0".join((DOMAIN, topic.encode(), content))


def _parsed(line: str) -> Succession:
    before, after, signature = line.split()
    return Succession(before=before, after=after, signature=bytes.fromhex(signature))


def _succession(topic: str, before: str, after: str) -> bytes:
    return b"\0".join((SUCCESSION_DOMAIN, topic.encode(), before.encode(), after.encode()))


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
