"""The authority of one federation: a root key kept offline, and an intermediate key that signs certificates.

While authorities change there are two pairs, see deploy/pki/succession.py.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import mkdtemp

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.names import RESERVED_IDS
from broker.topics import Role
from deploy.pki.issuer import START, Issuer, PublicKey, builder, issuer_identifier, key_usage, wrong_clock
from deploy.pki.register import Issued, Register
from deploy.pki.succession import Stage, successor_of
from host.certificates import requested_key
from host.errors import ConfigError, DataError
from host.files import only_writer, write_atomic

LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
CRL, REGISTER = "crl.pem", "certificates.sqlite"
BROKER = "broker"

DEVICE_DAYS = SERVER_DAYS = 730
# A list that is out of date locks out every device, so it is told by its number which one is newer.
CRL_DAYS = 3650


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authority:
    """Issues and revokes certificates with the intermediate key; the register has a row for each."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = _utc_now, *, ahead: bool = False) -> None:
        """Read the folder; raises ConfigError where a file is missing or does not fit the others.

        `ahead` signs with the successor that is only to be trusted yet.
        """
        self._folder, self._now = folder, now
        self.stage, successor = successor_of(folder)
        first = Issuer.read(folder if self.stage is not Stage.ALONE else successor)
        self.issuers = [first] if self.stage in {None, Stage.ALONE} else [first, Issuer.read(successor)]
        waits = self.stage is Stage.TRUSTED and not ahead
        self._issuer = self.issuers[0] if waits else self.issuers[-1]
        self.root, self.intermediate = self._issuer.root, self._issuer.intermediate
        self.register = Register(folder / REGISTER)

    @classmethod
    def create(cls, folder: Path, federation: str, now: Callable[[], datetime] = _utc_now) -> "Authority":
        """Make a root, an intermediate and an empty list of revoked certificates, all or nothing.

        Raises ConfigError when something is in the folder already, and for a wrong clock.
        """
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(
                f"authority {folder}: there is one, or what is left of one; load it, or move it away"
            )
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            Issuer.make(made, federation, now())
            cls(made, now).crl()
            made.rename(folder)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        return cls(folder, now)

    @classmethod
    def load(cls, folder: Path, now: Callable[[], datetime] = _utc_now) -> "Authority":
        """Read an authority, which needs no root key; raises ConfigError."""
        return cls(folder, now)

    @property
    def roots(self) -> bytes:
        """Whom to trust, as PEM: the root, and beside it the other one while they change."""
        return b"".join(issuer.root for issuer in self.issuers)

    @property
    def issuer_id(self) -> str:
        """Which intermediate signs now; the register has it of each certificate."""
        return self._issuer.id

    def issue(self, name: str, role: Role, public_key: PublicKey, *, days: float = DEVICE_DAYS) -> bytes:
        """Certify a client: PEM of leaf and intermediate; its common name is its account on the broker.

        Raises ConfigError for a name that would give it the rights of another role, and for a wrong clock.
        """
        self._check_name(name, role)
        usage = _usage(ExtendedKeyUsageOID.CLIENT_AUTH)
        return self._issue(name, role, public_key, [usage], days, self._issuer)

    def issue_server(
        self, names: Sequence[str], public_key: PublicKey, *, days: float = SERVER_DAYS, ahead: bool = False
    ) -> bytes:
        """Certify a broker for the host names and addresses it has; PEM of leaf and intermediate.

        While authorities change, by the older one, whom everybody trusts who has to trust the broker; with
        `ahead`, by the newer one.
        """
        if not names:
            raise ConfigError("a broker's certificate needs at least one host name or address")
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        usage = _usage(ExtendedKeyUsageOID.SERVER_AUTH)
        issuer = self.issuers[-1 if ahead else 0]
        return self._issue(BROKER, BROKER, public_key, [usage, alternatives], days, issuer)

    def sign(self, name: str, role: Role, csr_pem: bytes, *, days: float = DEVICE_DAYS) -> bytes:
        """Certify the key of a request under the caller's name; raises DataError for a bad request."""
        return self.issue(name, role, requested_key(csr_pem), days=days)

    def is_revoked(self, name: str, serial: str) -> bool:
        """Whether the certificate of this name and serial number was revoked."""
        return any(row.serial == serial and row.revoked_at is not None for row in self.register.of(name))

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
        """Sign the list of revoked certificates, and write it beside the keys; PEM.

        While authorities change there is one of each, in one file, with the same content.
        """
        with self.listed() as pem:
            return pem

    @contextmanager
    def listed(self, *copies: Path) -> Iterator[bytes]:
        """As `crl`; until this ends nobody else makes a list, so that none overwrites a newer one.

        Nobody is trusted again: what these copies, or the list before, revoke stays revoked, even if the
        register was restored from a backup that is older.
        """
        with only_writer(self._folder):
            for path in (self._folder / CRL, *copies):
                self._take_over(path)
            pem = b"".join(self._list_of(issuer) for issuer in self.issuers)
            write_atomic(self._folder / CRL, pem)
            yield pem

    def _take_over(self, path: Path) -> None:
        for pem in LIST.findall(path.read_bytes()) if path.exists() else ():
            try:
                revoked = x509.load_pem_x509_crl(pem)
                ours = any(revoked.is_signature_valid(one.key.public_key()) for one in self.issuers)
            except ValueError:
                continue
            if ours:
                self.register.restore({f"{one.serial_number:x}": one.revocation_date_utc for one in revoked})

    def _list_of(self, issuer: Issuer) -> bytes:
        ca = issuer.certificate
        # By a clock in 1970 it would have ended long ago, and lock everybody out.
        now = max(self._now(), issuer.made_at)
        made = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ca.subject)
            .last_update(START)
            .next_update(min(now + timedelta(days=CRL_DAYS), ca.not_valid_after_utc))
            .add_extension(issuer_identifier(ca), critical=False)
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        )
        for row in self.register.all():
            if row.revoked_at is not None:
                made = made.add_revoked_certificate(_revoked(row.serial, row.revoked_at))
        return made.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _check_name(self, name: str, role: Role) -> None:
        """The broker gives rights by name: no name may pass from one role to another."""
        if role is Role.DEVICE and name in RESERVED_IDS:
            raise ConfigError(f"{name!r} is the name of a role: choose another name for the device")
        if others := {row.role for row in self.register.of(name)} - {role.value}:
            raise ConfigError(
                f"{name!r} is the name of a certificate of role {others.pop()}: choose another name"
            )

    def _issue(
        self,
        name: str,
        role: str,
        key: PublicKey,
        extensions: Sequence[x509.ExtensionType],
        days: float,
        issuer: Issuer,
    ) -> bytes:
        now, ca = self._now(), issuer.certificate
        if now < (earliest := self.issuers[0].made_at):
            raise ConfigError(wrong_clock(now.timestamp(), earliest.timestamp()))
        end = min(now + timedelta(days=days), ca.not_valid_after_utc)
        made = (
            builder(name, ca.subject, key, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs=False), critical=True)
            .add_extension(issuer_identifier(ca), critical=False)
        )
        for extension in extensions:
            made = made.add_extension(extension, critical=False)
        leaf = made.sign(issuer.key, hashes.SHA256())
        serial, end = f"{leaf.serial_number:x}", leaf.not_valid_after_utc
        self.register.add(Issued(serial, name, role, START, end, now, issuer=issuer.id))
        return leaf.public_bytes(Encoding.PEM) + issuer.intermediate


def _usage(purpose: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([purpose])


def _revoked(serial: str, when: datetime) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
    return builder.revocation_date(when).build()


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
