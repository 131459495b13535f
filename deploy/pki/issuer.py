"""One pair of root and intermediate: what it is made of, and what every certificate under it has in common.

Profile: RFC 5280, P-256 with SHA-256. All are valid from 1970 on: a device has no clock before its first
connection, and one that thinks it is 1970 must still be able to make that connection. Only the end counts.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from edge_agent.schedule import EARLIEST_UNIX_S
from host.certificates import belongs, certificate, new_key, private_key
from host.errors import ConfigError, DataError
from host.files import write_atomic, write_secret

ROOT_KEY, ROOT = "root.key", "root.crt"
INTERMEDIATE_KEY, INTERMEDIATE = "intermediate.key", "intermediate.crt"
START = datetime(1970, 1, 1, tzinfo=UTC)
ROOT_DAYS, INTERMEDIATE_DAYS = 7300, 5475

PublicKey = ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class Issuer:
    """A root's and an intermediate's certificate, as PEM, and the intermediate's key."""

    root: bytes
    intermediate: bytes
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, folder: Path, federation: str, now: datetime) -> None:
        """Write a new pair, and the root's key, into a folder that has none.

        Raises ConfigError where the clock cannot be right: all of it would end too early.
        """
        if now.timestamp() < EARLIEST_UNIX_S:
            raise ConfigError(wrong_clock(now.timestamp(), EARLIEST_UNIX_S))
        root_key, intermediate_key = new_key(), new_key()
        root = _self_signed(root_key, f"midge root {federation}", now + timedelta(days=ROOT_DAYS))
        intermediate = _intermediate(root, root_key, intermediate_key, federation, now)
        write_secret(folder / ROOT_KEY, root_key)
        write_atomic(folder / ROOT, root)
        write_secret(folder / INTERMEDIATE_KEY, intermediate_key)
        write_atomic(folder / INTERMEDIATE, intermediate)

    @classmethod
    def read(cls, folder: Path) -> "Issuer":
        """Read what `make` wrote; raises ConfigError where a file is missing or does not fit the others."""
        root, intermediate = _read(folder / ROOT), _read(folder / INTERMEDIATE)
        key = _read(folder / INTERMEDIATE_KEY)
        try:
            fits = belongs(intermediate, key)
            made = cls(root, intermediate, private_key(key))
        except DataError as error:
            raise ConfigError(f"authority {folder}: {error}; restore it from a backup") from None
        if not fits:
            raise ConfigError(
                f"authority {folder}: {INTERMEDIATE} is not for {INTERMEDIATE_KEY}; restore both"
            )
        return made

    @property
    def certificate(self) -> x509.Certificate:
        """The intermediate's."""
        return certificate(self.intermediate)

    @property
    def made_at(self) -> datetime:
        """When it was made, in UTC: its certificates begin in 1970, and do not say."""
        return self.certificate.not_valid_after_utc - timedelta(days=INTERMEDIATE_DAYS)

    @property
    def id(self) -> str:
        """The serial number of the intermediate's certificate."""
        return f"{self.certificate.serial_number:x}"


def wrong_clock(unix_s: float, earliest_unix_s: float) -> str:
    """What to say of a clock that shows a time before the earliest that it can be."""
    shown, earliest = (datetime.fromtimestamp(time, UTC) for time in (unix_s, earliest_unix_s))
    return f"the clock of this machine says {shown:%Y-%m-%d}, and it is {earliest:%Y-%m-%d} at least: set it"


def _self_signed(key_pem: bytes, name: str, end: datetime) -> bytes:
    key = private_key(key_pem)
    root = (
        builder(name, _name(name), key.public_key(), end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return root.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _intermediate(root: bytes, root_key: bytes, key_pem: bytes, federation: str, now: datetime) -> bytes:
    issuer, public_key = certificate(root), private_key(key_pem).public_key()
    end = now + timedelta(days=INTERMEDIATE_DAYS)
    intermediate = (
        builder(f"midge intermediate {federation}", issuer.subject, public_key, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs=True), critical=True)
        .add_extension(issuer_identifier(issuer), critical=False)
    )
    return intermediate.sign(private_key(root_key), hashes.SHA256()).public_bytes(Encoding.PEM)


def builder(name: str, issuer: x509.Name, key: PublicKey, end: datetime) -> x509.CertificateBuilder:
    """Begin a certificate with what all have."""
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Name the issuer by its key."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def key_usage(*, signs: bool) -> x509.KeyUsage:
    """Say whether the key is for certificates and lists of revoked ones, or for connections."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"authority {path.parent}: {path.name} cannot be read: {error.strerror}; make one with midge init"
        ) from None
