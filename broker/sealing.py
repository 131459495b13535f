"""Sealed updates: readable with the aggregator's private key alone, and only as what they were made for.

    magic | wrapped key (80 bytes) | block | block ... | last block

A fresh key for each update is wrapped with HPKE (RFC 9180, base mode: X25519, HKDF-SHA256,
ChaCha20-Poly1305); its `info` is the context: federation, run, round, device. With it ChaCha20-Poly1305
(RFC 8439) encrypts blocks of 64 KiB; a nonce is the block's number (11 bytes, big-endian) and whether it is
the last (1 byte), so that none can be moved, repeated or cut off (STREAM: Hoang, Reyhanitabar, Rogaway and
Vizar, CRYPTO 2015, https://eprint.iacr.org/2015/189). Memory stays at a block, whatever the size.
`cryptography` is loaded when a key is first used.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from broker.keyfile import KEY_BYTES, read_or_make
from broker.topics import Topics
from host.errors import SealError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hpke import Suite

UPDATE = "midge sealed update 1"
MAGIC = b"midge sealed 1\n"
BLOCK_BYTES = 64 << 10
TAG_BYTES = 16
WRAPPED_BYTES = 32 + KEY_BYTES + TAG_BYTES
COUNTER_BYTES = 11
CURE = "restore it from a backup, or remove it: what was sealed to it is then lost"


class SealingKey:
    """The aggregator's private key, in a file for its owner alone; made when there is none.

    Raises ConfigError for a file that holds no key, StorageError where none can be made.
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415

        self._key = X25519PrivateKey.from_private_bytes(read_or_make(path, "sealing key", CURE))

    @property
    def public_key(self) -> str:
        """What devices seal to: 64 hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """What was sealed for this context; raises SealError when it was not, or not to this key."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            return _suite().decrypt(sealed, self._key, info=context)
        except (InvalidTag, ValueError):
            raise SealError("it is not sealed to the aggregator's key for this topic or round") from None

    def open_update(self, sealed: BinaryIO, context: bytes) -> Iterator[bytes]:
        """The parts of an update, from a file at its start; raises SealError, also after the first parts."""
        if sealed.read(len(MAGIC)) != MAGIC:
            raise SealError("it is not sealed")
        key = self.open(sealed.read(WRAPPED_BYTES), context)
        block = sealed.read(BLOCK_BYTES + TAG_BYTES)
        number = 0
        while block:
            following = sealed.read(BLOCK_BYTES + TAG_BYTES)
            yield _open_block(key, number, block, last=not following)
            block, number = following, number + 1
        if number == 0:
            raise SealError("it ends before its first block")


def seal(plain: bytes, public_key: str, context: bytes) -> bytes:
    """Seal a short text to a public key for one context; raises SealError for what is no key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey  # noqa: PLC0415

    try:
        key = X25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        return _suite().encrypt(plain, key, info=context)
    except ValueError:
        raise SealError(f"{public_key[:8]}... is no key that anything can be sealed to") from None


def seal_update(parts: Iterable[bytes], public_key: str, context: bytes) -> Iterator[bytes]:
    """Seal the parts of an update, which hold at least a byte; raises SealError for what is no key."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    key = os.urandom(KEY_BYTES)
    yield MAGIC + seal(key, public_key, context)
    cipher = ChaCha20Poly1305(key)
    number, held = 0, b""
    for block in _blocks(parts):
        if held:
            yield cipher.encrypt(_nonce(number, last=False), held, None)
            number += 1
        held = block
    yield cipher.encrypt(_nonce(number, last=True), held, None)


def is_sealed(path: Path) -> bool:
    """Whether a file begins as a sealed update does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def sealed_size(plain: int) -> int:
    """How many bytes an update of so many bytes takes once it is sealed."""
    return len(MAGIC) + WRAPPED_BYTES + plain + TAG_BYTES * max(1, -(-plain // BLOCK_BYTES))


def context_of(topics: Topics, run: str, round_: int, device: str) -> bytes:
    """What binds an update to its federation, run, round and device."""
    # None of them holds a NUL, so no two contexts read the same.
    return "\0".join((UPDATE, topics.root, run, str(round_), device)).encode()


def _suite() -> "Suite":
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite  # noqa: PLC0415

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def _open_block(key: bytes, number: int, block: bytes, *, last: bool) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305  # noqa: PLC0415

    try:
        return ChaCha20Poly1305(key).decrypt(_nonce(number, last=last), block, None)
    except InvalidTag:
        raise SealError(f"its block {number} is damaged, missing or out of place") from None


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(COUNTER_BYTES, "big") + bytes([last])


def _blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of BLOCK_BYTES, fewer in the last."""
    held = bytearray()
    for part in parts:
        view = memoryview(part)
        while view:
            room = BLOCK_BYTES - len(held)
            held += view[:room]
            view = view[room:]
            if len(held) == BLOCK_BYTES:
                yield bytes(held)
                held.clear()
    if held:
        yield bytes(held)
