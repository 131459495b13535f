"""The authority of one federation: a root key kept offline, and an intermediate key that signs certificates.

Profile: RFC 5280, P-256 with SHA-256. All are valid from 1970 on: a device has no clock before its first
connection, and one that thinks it is 1970 must still be able to make that connection. Only the end counts.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker.names import RESERVED_IDS
from broker.topics import Role
from deploy.pki.register import Issued, Register
from host.certificates import belongs, certificate, new_key, private_key, requested_key
from host.errors import ConfigError, DataError
from host.files import write_atomic, write_secret

ROOT_KEY, ROOT = "root.key", "root.crt"
INTERMEDIATE_KEY, INTERMEDIATE = "intermediate.key", "intermediate.crt"
CRL, REGISTER = "crl.pem", "certificates.sqlite"
BROKER = "broker"

START = datetime(1970, 1, 1, tzinfo=UTC)
ROOT_DAYS, INTERMEDIATE_DAYS = 7300, 5475
DEVICE_DAYS = SERVER_DAYS = 730
# A list that is out of date locks out every device, so it is told by its number which one is newer.
CRL_DAYS = 3650

PublicKey = ec.EllipticCurvePublicKey


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """Issues and revokes certificates with the intermediate key; the register has a row for each."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = _utc_now) -> None:
        """Read the folder; raises ConfigError where a file is missing or does not fit the others."""
        self._folder, self._now = folder, now
        self.root = _read(folder / ROOT)
        self.intermediate = _read(folder / INTERMEDIATE)
        key = _read(folder / INTERMEDIATE_KEY)
        try:
            fits = belongs(self.intermediate, key)
            self._key, self._issuer = private_key(key), certificate(self.intermediate)
        except DataError as error:
            raise ConfigError(f"authority {folder}: {error}; restore it from a backup") from None
        if not fits:
            raise ConfigError(
                f"authority {folder}: {INTERMEDIATE} is not for {INTERMEDIATE_KEY}; restore both"
            )
        self.register = Register(folder / REGISTER)

    @classmethod
    def create(cls, folder: Path, federation: str, now: Callable[[], datetime] = _utc_now) -> "Authority":
        """Make a root, an intermediate and an empty revocation list; raises ConfigError if any is there."""
        if there := [name for name in (ROOT_KEY, ROOT, INTERMEDIATE) if (folder / name).exists()]:
            raise ConfigError(
                f"authority {folder}: {there[0]} is there already; load it, or choose another folder"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        root_key, intermediate_key = new_key(), new_key()
        root = _self_signed(root_key, f"midge root {federation}", now() + timedelta(days=ROOT_DAYS))
        intermediate = _intermediate(root, root_key, intermediate_key, federation, now())
        write_secret(folder / ROOT_KEY, root_key)
        write_secret(folder / INTERMEDIATE_KEY, intermediate_key)
        write_atomic(folder / INTERMEDIATE, intermediate)
        # Last: where a root certificate is, everything is.
        write_atomic(folder / ROOT, root)
        authority = cls(folder, now)
        authority.crl()
        return authority

    @classmethod
    def load(cls, folder: Path, now: Callable[[], datetime] = _utc_now) -> "Authority":
        """Read an authority, which needs no root key; raises ConfigError."""
        return cls(folder, now)

    def issue(self, name: str, role: Role, public_key: PublicKey, *, days: float = DEVICE_DAYS) -> bytes:
        """Certify a client: PEM of leaf and intermediate; its common name is its account on the broker.

        Raises ConfigError for a name that would give it the rights of another role.
        """
        self._check_name(name, role)
        return self._issue(name, role, public_key, [_usage(ExtendedKeyUsageOID.CLIENT_AUTH)], days)

    def issue_server(
        self, names: Sequence[str], public_key: PublicKey, *, days: float = SERVER_DAYS
    ) -> bytes:
        """Certify a broker for the host names and addresses it has; PEM of leaf and intermediate."""
        if not names:
            raise ConfigError("a broker's certificate needs at least one host name or address")
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        usage = _usage(ExtendedKeyUsageOID.SERVER_AUTH)
        return self._issue(BROKER, BROKER, public_key, [usage, alternatives], days)

    def sign(self, name: str, role: Role, csr_pem: bytes, *, days: float = DEVICE_DAYS) -> bytes:
        """Certify the key of a request under the caller's name; raises DataError for a bad request."""
        return self.issue(name, role, requested_key(csr_pem), days=days)

    def revoke(self, name_or_serial: str) -> list[Issued]:
        """Revoke every certificate of a name, or the one of a serial number, and write the list.

        Returns those that were not revoked before; raises DataError when there never was any.
        """
        known = [row for row in self.register.all() if name_or_serial in (row.name, row.serial)]
        if not known:
            raise DataError(f"no certificate of name or serial number {name_or_serial!r} was ever issued")
        revoked = self.register.revoke(name_or_serial, self._now())
        self.crl()
        return revoked

    def crl(self) -> bytes:
        """Sign the list of revoked certificates, and write it beside the keys; PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._issuer.subject)
            .last_update(START)
            .next_update(min(self._now() + timedelta(days=CRL_DAYS), self._issuer.not_valid_after_utc))
            .add_extension(_issuer_identifier(self._issuer), critical=False)
            .add_extension(x509.CRLNumber(int(self._now().timestamp() * 1000)), critical=False)
        )
        for row in self.register.all():
            if row.revoked_at is not None:
                builder = builder.add_revoked_certificate(_revoked(row.serial, row.revoked_at))
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        write_atomic(self._folder / CRL, pem)
        return pem

    def _check_name(self, name: str, role: Role) -> None:
        """The broker gives rights by name: no name may pass from one role to another."""
        if role is Role.DEVICE and name in RESERVED_IDS:
            raise ConfigError(f"{name!r} is the name of a role: choose another name for the device")
        if others := {row.role for row in self.register.of(name)} - {role.value}:
            raise ConfigError(
                f"{name!r} is the name of a certificate of role {others.pop()}: choose another name"
            )

    def _issue(
        self, name: str, role: str, key: PublicKey, extensions: Sequence[x509.ExtensionType], days: float
    ) -> bytes:
        end = min(self._now() + timedelta(days=days), self._issuer.not_valid_after_utc)
        builder = (
            _builder(name, self._issuer.subject, key, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(_issuer_identifier(self._issuer), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        leaf = builder.sign(self._key, hashes.SHA256())
        serial = f"{leaf.serial_number:x}"
        self.register.add(Issued(serial, name, role, START, leaf.not_valid_after_utc, self._now()))
        return leaf.public_bytes(Encoding.PEM) + self.intermediate


def _self_signed(key_pem: bytes, name: str, end: datetime) -> bytes:
    key = private_key(key_pem)
    root = (
        _builder(name, _name(name), key.public_key(), end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    return root.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _intermediate(root: bytes, root_key: bytes, key_pem: bytes, federation: str, now: datetime) -> bytes:
    issuer, public_key = certificate(root), private_key(key_pem).public_key()
    end = now + timedelta(days=INTERMEDIATE_DAYS)
    intermediate = (
        _builder(f"midge intermediate {federation}", issuer.subject, public_key, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(_issuer_identifier(issuer), critical=False)
    )
    return intermediate.sign(private_key(root_key), hashes.SHA256()).public_bytes(Encoding.PEM)


def _builder(name: str, issuer: x509.Name, key: PublicKey, end: datetime) -> x509.CertificateBuilder:
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


def _issuer_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _usage(purpose: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([purpose])


def _key_usage(*, signs: bool) -> x509.KeyUsage:
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


def _revoked(serial: str, when: datetime) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
    return builder.revocation_date(when).build()


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"authority {path.parent}: {path.name} cannot be read: {error.strerror}; make one with midge init"
        ) from None
