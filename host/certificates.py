"""Keys, certificate requests, and what a certificate says: P-256 (FIPS 186-5) and X.509 (RFC 5280), as PEM.

Loads `cryptography`: an agent imports this module when it needs it, not at its start. A file of several
certificates is read as its first, the leaf.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from host.errors import DataError

MAX_PEM_BYTES = 1 << 16


def new_key() -> bytes:
    """Make a private key on the curve P-256; PEM, PKCS #8, not encrypted."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def private_key(key_pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key; raises DataError for anything but one on P-256."""
    with _strangers("private key in PEM without a password"):
        key = load_pem_private_key(_bounded(key_pem), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DataError("the private key is not on the curve P-256")
    return key


def request(key_pem: bytes, name: str) -> bytes:
    """Ask for a certificate of this common name (PKCS #10, RFC 2986), as PEM; raises DataError."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(private_key(key_pem), hashes.SHA256()).public_bytes(Encoding.PEM)


def requested_key(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a request whose sender has the private one; raises DataError.

    Nothing else of a request counts: who the sender is, another channel says.
    """
    with _strangers("certificate request"):
        asked = x509.load_pem_x509_csr(_bounded(request_pem))
        key, proven = asked.public_key(), asked.is_signature_valid
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DataError("the certificate request has a key that is not on the curve P-256")
    if not proven:
        raise DataError("the certificate request is not signed with its own key")
    return key


def certificate(certificate_pem: bytes) -> x509.Certificate:
    """Read the first certificate; raises DataError when there is none."""
    with _strangers("certificate in PEM"):
        return x509.load_pem_x509_certificate(_bounded(certificate_pem))


def chain(chain_pem: bytes) -> list[x509.Certificate]:
    """Read a certificate and those behind it, each of which has to be one; raises DataError."""
    with _strangers("chain of certificates in PEM"):
        return x509.load_pem_x509_certificates(_bounded(chain_pem))


def public_key(certificate_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a certificate is for; raises DataError for anything but one on P-256."""
    with _strangers("certificate with a key"):
        key = certificate(certificate_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DataError("the certificate is for a key that is not on the curve P-256")
    return key


def is_issued_by(certificate_pem: bytes, issuer_pem: bytes) -> bool:
    """Whether the key of the second certificate signed the first; False for what is no certificate."""
    try:
        with _strangers("certificate in PEM"):
            certificate(certificate_pem).verify_directly_issued_by(certificate(issuer_pem))
    except DataError:
        return False
    return True


def common_name(certificate_pem: bytes) -> str:
    """Whose certificate it is; raises DataError when it names nobody."""
    with _strangers("certificate with a name"):
        names = certificate(certificate_pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise DataError(f"the certificate has {len(names)} common names instead of one")
    return str(names[0].value)


def serial(certificate_pem: bytes) -> str:
    """The serial number, as hexadecimal digits without leading zeros; raises DataError."""
    return f"{certificate(certificate_pem).serial_number:x}"


def not_after(certificate_pem: bytes) -> datetime:
    """When it expires, in UTC; raises DataError."""
    return certificate(certificate_pem).not_valid_after_utc


def belongs(certificate_pem: bytes, key_pem: bytes) -> bool:
    """Whether the certificate is for this private key; raises DataError."""
    return public_key(certificate_pem) == private_key(key_pem).public_key()


@contextmanager
def _strangers(what: str) -> Iterator[None]:
    """Read a stranger's bytes: whatever the library raises, it is their fault, and ends no service."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - it raises what it likes
        raise DataError(f"it is no {what}: {error}") from None


def _bounded(pem: bytes) -> bytes:
    if len(pem) > MAX_PEM_BYTES:
        raise DataError(
            f"a key, request or certificate of {len(pem)} bytes is too long: {MAX_PEM_BYTES} at most"
        )
    return pem
