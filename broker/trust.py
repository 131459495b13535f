"""Which roots a device is to trust: told with its certificate, and vouched for by one that it trusts already.

So the broker, which carries it, cannot put a root of its own in their place.
"""

import hashlib
import re
import ssl
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from broker.messages import Message, Part
from broker.names import Digest
from host.errors import DataError, ForgeryError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

MAX_ROOTS = 4
MAX_ROOTS_BYTES = 16 << 10
MAX_SIGNATURE_BYTES = 256
MAX_WITHIN_S = 366 * 86_400
# No other use of a key signs anything that begins like this.
DOMAIN = b"midge roots 1"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

Certificates = Annotated[bytes, Field(min_length=1, max_length=MAX_ROOTS_BYTES)]


class Trust(Part):
    """The roots to trust from now on, and who says so."""

    roots: Certificates = Field(description="of broker and devices, as PEM, four at most")
    voucher: Certificates = Field(description="an intermediate's certificate, as PEM")
    signature: Annotated[bytes, Field(min_length=1, max_length=MAX_SIGNATURE_BYTES)] = Field(
        description="ECDSA signature with the key of that intermediate, SHA-256"
    )


class Certifier(Message):
    """Who certifies devices now: one who is certified by others, or trusts others, asks for a renewal."""

    issuer: Digest = Field(description="SHA-256 of the intermediate's certificate, DER")
    roots: tuple[Digest, ...] = Field(
        min_length=1, max_length=MAX_ROOTS, description="SHA-256 of each root to trust, DER"
    )
    within_s: Annotated[float, Field(ge=0, le=MAX_WITHIN_S)] = Field(
        description="when to ask: at a random moment from now on"
    )


def fingerprints(pem: bytes) -> tuple[str, ...]:
    """SHA-256 of each certificate in a file of them, in their order; raises DataError."""
    try:
        return tuple(
            hashlib.sha256(ssl.PEM_cert_to_DER_cert(found.decode())).hexdigest()
            for found in _CERTIFICATE.findall(pem)
        )
    except ValueError as error:
        raise DataError(f"a certificate cannot be read: {error}") from None


def covered(topic: str, roots: bytes) -> bytes:
    """What a voucher signs: these roots, for the federation of this full topic."""
    return b"\0".join((DOMAIN, topic.encode(), roots))


def vouch(key: "EllipticCurvePrivateKey", voucher: bytes, topic: str, roots: bytes) -> Trust:
    """Sign roots with the key of the intermediate whose certificate is `voucher`."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    return Trust(roots=roots, voucher=voucher, signature=key.sign(covered(topic, roots), ECDSA(SHA256())))


def check(trust: Trust, topic: str, trusted: bytes) -> None:
    """Raise ForgeryError unless an intermediate of one of the trusted roots (PEM) vouches for these."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.x509 import BasicConstraints, ExtensionNotFound  # noqa: PLC0415

    from host.certificates import certificate, chain, is_issued_by, public_key  # noqa: PLC0415

    # First, so that nothing but its certificate's signature is read of a stranger.
    if not any(is_issued_by(trust.voucher, root) for root in _split(trusted)):
        raise ForgeryError("whoever vouches for the roots is of none that is trusted")
    try:
        extensions = certificate(trust.voucher).extensions
        if not extensions.get_extension_for_class(BasicConstraints).value.ca:
            raise ForgeryError("whoever vouches for the roots is no intermediate")
        public_key(trust.voucher).verify(trust.signature, covered(topic, trust.roots), ECDSA(SHA256()))
        if len(chain(trust.roots)) > MAX_ROOTS:
            raise ForgeryError(f"more than {MAX_ROOTS} roots are vouched for")
    except (DataError, InvalidSignature, ExtensionNotFound, ValueError):
        raise ForgeryError("the roots are not vouched for: they cannot be read, or not verified") from None


def _split(pem: bytes) -> list[bytes]:
    return _CERTIFICATE.findall(pem)
