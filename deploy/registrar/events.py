"""What the registrar's core is told, and what it asks for."""

from dataclasses import dataclass

from broker.enrolment import EnrolmentRequest, Issued, Refusal, RenewalRequest
from broker.topics import Branch
from deploy.registrar.tokens import Renewed, TokenRow


@dataclass(frozen=True)
class Standing:
    """What the authority's register says of a certificate that it issued; times in unix seconds."""

    serial: str
    issued_unix_s: float
    expires_unix_s: float
    revoked: bool = False


@dataclass(frozen=True)
class EnrolmentAsked:
    """Somebody asks on a token's topic; `found` is what is known of that token."""

    token: str
    asked: EnrolmentRequest
    found: TokenRow | None


@dataclass(frozen=True)
class RenewalAsked:
    """A device asks; `standing` is that of the certificate it shows, None when it is none of its own.

    `outdated` says that it was certified by an authority that gives way, or trusts one that is gone; `last`
    is None also if that was made by such a one.
    """

    device: str
    asked: RenewalRequest
    standing: Standing | None
    last: Renewed | None
    outdated: bool = False


@dataclass(frozen=True)
class Order:
    """A certificate to be made: for whom, for which key, and who waits for it on which branch.

    `serial` is that of the certificate that it follows; by token it follows none.
    """

    branch: Branch
    name: str
    device: str
    asked: bytes
    key: str
    serial: str | None = None


@dataclass(frozen=True)
class Signed:
    """An order was carried out; `revoked` if the certificate that it follows was revoked meanwhile."""

    order: Order
    chain: bytes
    revoked: bool = False


Event = EnrolmentAsked | RenewalAsked | Signed


@dataclass(frozen=True)
class Claim:
    """Mark a token used by this key, before anything is signed for it."""

    token: str
    key: str


@dataclass(frozen=True)
class Sign:
    """Make a certificate; becomes Signed."""

    order: Order


@dataclass(frozen=True)
class Keep:
    """Have the answer on the disk, before it goes out."""

    order: Order
    chain: bytes


@dataclass(frozen=True)
class Reply:
    """Publish an answer; `name` is the device or token in the topic."""

    branch: Branch
    name: str
    answer: Issued | Refusal


@dataclass(frozen=True)
class Note:
    """Write a line to the log; `device` is whom it is about, None where only a token tells."""

    text: str
    event: str
    device: str | None = None
    warning: bool = False


Effect = Claim | Sign | Keep | Reply | Note
