"""Certificates of nobody's authority, where only their key and end count."""

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from host.certificates import private_key


def chain_for(key_pem: bytes, name: str, expires_unix_s: float) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = private_key(key_pem)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1970, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime.fromtimestamp(expires_unix_s, UTC))
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
