"""Keys, certificate requests, and what a certificate says: P-256 (FIPS 186-5) and X.509 (RFC 5280), as PEM.

Loads `cryptography`: an agent imports this module when it needs it, not at its start. A file of several
certificates is read as its first, the leaf.
"""

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
    try:
        key = load_pem_private_key(_bounded(key_pem), password=None)
    except (ValueError, TypeError) as error:
        raise DataError(f"it is no private key in PEM without a password: {error}") from None
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
    try:
        asked = x509.load_pem_x509_csr(_bounded(request_pem))
        key, proven = asked.public_key(), asked.is_signature_valid
    except Exception as error:  # noqa: BLE001 - a stranger's bytes, and the library raises what it likes
        raise DataError(f"it is no certificate request: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise DataError("the certificate request has a key that is not on the curve P-256")
    if not proven:
        raise DataError("the certificate request is not signed with its own key")
    return key


def certificate(certificate_pem: bytes) -> x509.Certificate:
    """Read the first certificate; raises DataError when there is none."""
    try:
        return x509.load_pem_x509_certificate(_bounded(certificate_pem))
    except ValueError as error:
        raise DataError(f"it is no certificate in PEM: {error}") from None


def common_name(certificate_pem: bytes) -> str:
    """Whose certificate it is; raises DataError when it names nobody."""
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
    return certificate(certificate_pem).public_key() == private_key(key_pem).public_key()


def _bounded(pem: bytes) -> bytes:
    if len(pem) > MAX_PEM_BYTES:
        raise DataError(
            f"a key, request or certificate of {len(pem)} bytes is too long: {MAX_PEM_BYTES} at most"
        )
    return pem
