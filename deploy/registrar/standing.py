"""What a certificate that a device shows is worth: whether our authority issued it, and what became of it."""

from broker.enrolment import RenewalRequest
from broker.topics import Role
from broker.trust import fingerprints
from deploy.pki.authority import Authority
from deploy.pki.succession import Stage
from deploy.registrar.events import Standing
from host.certificates import is_issued_by
from host.certificates import serial as serial_of


def standing_of(authority: Authority, device: str, certificate_pem: bytes) -> Standing | None:
    """Look a device's certificate up; None where it is not genuine, or another's."""
    if not any(is_issued_by(certificate_pem, issuer.intermediate) for issuer in authority.issuers):
        return None
    serial = serial_of(certificate_pem)
    for row in authority.register.of(device):
        if row.serial == serial and row.role == Role.DEVICE:
            revoked = row.revoked_at is not None
            return Standing(serial, row.issued_at.timestamp(), row.not_after.timestamp(), revoked)
    return None


def is_outdated(authority: Authority, asked: RenewalRequest) -> bool:
    """Whether a device's certificate is another authority's than that of now, or its roots are others.

    While the next authority only is trusted yet, nobody's is.
    """
    if authority.stage is Stage.TRUSTED:
        return False
    roots = set(asked.roots)
    others = bool(roots) and roots != set(fingerprints(authority.roots))
    return others or not is_current(authority, asked.certificate)


def is_current(authority: Authority, chain: bytes) -> bool:
    """Whether a certificate is by the intermediate that signs now."""
    return is_issued_by(chain, authority.intermediate)
