"""What a certificate that a device shows is worth: whether our authority issued it, and what became of it."""

from cryptography.exceptions import InvalidSignature

from broker.topics import Role
from deploy.pki.authority import Authority
from deploy.registrar.events import Standing
from host import certificates
from host.errors import DataError


def standing_of(authority: Authority, device: str, certificate_pem: bytes) -> Standing | None:
    """Look a device's certificate up; None where it is not genuine, or another's."""
    try:
        shown = certificates.certificate(certificate_pem)
        shown.verify_directly_issued_by(certificates.certificate(authority.intermediate))
        serial = certificates.serial(certificate_pem)
    except (DataError, InvalidSignature, ValueError, TypeError):
        return None
    for row in authority.register.of(device):
        if row.serial == serial and row.role == Role.DEVICE:
            revoked = row.revoked_at is not None
            return Standing(row.issued_at.timestamp(), row.not_after.timestamp(), revoked)
    return None
