"""How a device gets its certificates: the messages, and the proofs of who asks.

A token is an Ed25519 key (RFC 8032) and an id. The device gets the key in a file, the registrar keeps the
public half: neither what crosses the broker nor what the registrar stores lets anybody enrol.

`cryptography` is loaded when something is signed or checked: an idle device is spared its memory.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from broker.messages import Message, Word
from broker.names import Digest
from broker.topics import FIELD_PATTERNS
from broker.trust import MAX_ROOTS, Trust
from host.errors import DataError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_REQUEST_BYTES = 4096
MAX_CHAIN_BYTES = 32 << 10
MAX_PROOF_BYTES = 256
MAX_WAIT_S = 10 * 366 * 86_400
# No other use of a key signs anything that begins like this.
DOMAIN = b"midge certificate request 1"
_TOKEN = re.compile(rf"({FIELD_PATTERNS['token']})\.([0-9a-f]{{64}})")

Request = Annotated[
    bytes,
    Field(min_length=1, max_length=MAX_REQUEST_BYTES, description="PKCS #10, as PEM; only its key counts"),
]
Proof = Annotated[bytes, Field(min_length=1, max_length=MAX_PROOF_BYTES)]
Chain = Annotated[bytes, Field(min_length=1, max_length=MAX_CHAIN_BYTES)]
Wait = Annotated[float, Field(ge=0, le=MAX_WAIT_S)]


class EnrolmentRequest(Message):
    """Ask for a first certificate; whose it will be, the token says."""

    request: Request
    proof: Proof = Field(description="Ed25519 signature with the token's key")


class RenewalRequest(Message):
    """Ask for the next certificate, with the one that is in use."""

    request: Request
    certificate: Chain = Field(description="the device's certificate of now, as PEM")
    proof: Proof = Field(description="ECDSA signature with the key of that certificate, SHA-256")
    roots: tuple[Digest, ...] = Field(
        default=(),
        max_length=MAX_ROOTS,
        description="SHA-256 of each root that it trusts, if others are to be trusted now",
    )


class RefusalReason(Word):
    """Why the registrar gives no certificate."""

    UNKNOWN = "unknown"
    USED = "used"
    EXPIRED = "expired"
    REVOKED = "revoked"
    BAD_PROOF = "bad-proof"
    BAD_REQUEST = "bad-request"
    TOO_EARLY = "too-early"
    BUSY = "busy"


REFUSALS: dict[RefusalReason, str] = {
    RefusalReason.UNKNOWN: "the registrar does not know this token or certificate: make a new token",
    RefusalReason.USED: "another key was enrolled with this token, which is for once: make a new token",
    RefusalReason.EXPIRED: "the token or the certificate has expired: make a new token",
    RefusalReason.REVOKED: "the device was revoked: make a new token if it is to come back",
    RefusalReason.BAD_PROOF: "the signature is not that of the token or certificate: copy the token again",
    RefusalReason.BAD_REQUEST: "the certificate request cannot be read, or its key is not on P-256",
    RefusalReason.TOO_EARLY: "the certificate is still young: ask again when the wait is over",
    RefusalReason.BUSY: "too many requests: ask again when the wait is over",
}


class Issued(Message):
    """A certificate for the key that was asked for."""

    kind: Literal["issued"] = "issued"
    request: Digest = Field(description="SHA-256 of the request that is answered")
    chain: Chain = Field(description="the certificate and those between it and the authority, as PEM")
    renew_after_s: Wait = Field(description="when to ask for the next one, from now")
    trust: Trust | None = Field(default=None, description="whom to trust from now on; None: as before")


class Refusal(Message):
    """No certificate, and why."""

    kind: Literal["refusal"] = "refusal"
    request: Digest = Field(description="SHA-256 of the request that is answered")
    reason: RefusalReason
    wait_s: Wait = Field(default=0.0, description="when it is worth asking again, from now")


Answer = Annotated[Issued | Refusal, Field(discriminator="kind")]


def digest_of(request: bytes) -> str:
    """What an answer names its request by."""
    return hashlib.sha256(request).hexdigest()


def covered(topic: str, request: bytes) -> bytes:
    """What a proof signs: this request, on this full topic, and nothing else."""
    # A topic holds no NUL, so no two pairs of topic and request read the same.
    return b"\0".join((DOMAIN, topic.encode(), request))


@dataclass(frozen=True)
class Token:
    """The right to enrol once: its id, and the secret half, which is never shown or sent."""

    id: str
    seed: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        """Make one up."""
        return cls(f"token_{secrets.token_hex(16)}", secrets.token_bytes(32))

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the content of a token's file; raises DataError."""
        found = _TOKEN.fullmatch(text.strip())
        if found is None:
            raise DataError(
                "it holds no whole token: copy it again, or make a new one (midge enroll --token)"
            )
        return cls(found[1], bytes.fromhex(found[2]))

    def text(self) -> str:
        """What stands in its file."""
        return f"{self.id}.{self.seed.hex()}\n"

    @property
    def public_key(self) -> str:
        """What the registrar keeps: 64 hexadecimal digits."""
        return self._key().public_key().public_bytes_raw().hex()

    @property
    def password(self) -> str:
        """What opens the broker's listener for tokens; the broker learns it, and can sign nothing with it."""
        return hmac.new(self.seed, b"midge enrolment account 1", "sha256").hexdigest()

    def prove(self, topic: str, request: bytes) -> bytes:
        """Sign a request that goes to this full topic."""
        return self._key().sign(covered(topic, request))

    def _key(self) -> "Ed25519PrivateKey":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        return Ed25519PrivateKey.from_private_bytes(self.seed)


def is_proven(public_key: str, topic: str, asked: EnrolmentRequest) -> bool:
    """Whether the holder of the token with this public key asked."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(asked.proof, covered(topic, asked.request))
    except (InvalidSignature, ValueError):
        return False
    return True


def show(key_pem: bytes, topic: str, request: bytes) -> bytes:
    """Sign a request that goes to this full topic with the key of a certificate; raises DataError."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    from host.certificates import private_key  # noqa: PLC0415

    return private_key(key_pem).sign(covered(topic, request), ECDSA(SHA256()))


def is_shown(topic: str, asked: RenewalRequest) -> bool:
    """Whether the holder of the certificate in the request asked; not whether it is worth anything."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    from host.certificates import public_key  # noqa: PLC0415

    try:
        public_key(asked.certificate).verify(asked.proof, covered(topic, asked.request), ECDSA(SHA256()))
    except (InvalidSignature, DataError, ValueError):
        return False
    return True


def key_digest(request: bytes) -> str:
    """SHA-256 of the key that a request asks a certificate for; raises DataError for a bad request."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    from host.certificates import requested_key  # noqa: PLC0415

    key = requested_key(request).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()
