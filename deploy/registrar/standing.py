"""What a certificate that a device shows is worth: whether our authority issued it, and what became of it."""

from cryptography.exceptions import InvalidSignature
from cryptography.x509 import Certificate

from broker.enrolment import RenewalRequest
from broker.topics import Role
from broker.trust import fingerprints
from deploy.pki.authority import Authority
from deploy.pki.succession import Stage
from deploy.registrar.events import Standing
from host import certificates
from host.errors import DataError


def standing_of(authority: Authority, device: str, certificate_pem: bytes) -> Standing | None:
    """Look a device's certificate up; None where it is not genuine, or another's."""
    try:
        shown = certificates.certificate(certificate_pem)
        serial = certificates.serial(certificate_pem)
    except DataError:
        return None
    if not any(_is_by(shown, issuer.certificate) for issuer in authority.issuers):
        return None
    for row in authority.register.of(device):
        if row.serial == serial and row.role == Role.DEVICE:
            revoked = row.revoked_at is not None
            return Standing(row.issued_at.timestamp(), row.not_after.timestamp(), revoked)
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
    try:
        return _is_by(certificates.certificate(chain), certificates.certificate(authority.intermediate))
    except DataError:
        return False


def _is_by(shown: Certificate, issuer: Certificate) -> bool:
    try:
        shown.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
