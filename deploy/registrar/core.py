"""The registrar's pure core: who gets a certificate. Events and the time go in, effects come out."""

from functools import singledispatchmethod

from broker.enrolment import (
    Issued,
    Refusal,
    RefusalReason,
    digest_of,
    is_proven,
    is_shown,
    key_digest,
)
from broker.topics import ENROL_REPLY, ENROL_REQUEST, RENEW, RENEWED, Branch, Topics
from deploy.pki.issuer import wrong_clock
from deploy.registrar.allowance import Allowance
from deploy.registrar.events import (
    Claim,
    Effect,
    EnrolmentAsked,
    Event,
    Keep,
    Note,
    Order,
    RenewalAsked,
    Reply,
    Sign,
    Signed,
    Standing,
)
from deploy.registrar.tokens import TokenRow
from host.certificates import not_after
from host.errors import DataError

# Of a certificate's life, when the next one may be asked for.
RENEWED_AFTER = 2 / 3
# How many times a token or a device may ask at once, and how often after that.
BURST, EVERY_S = 5, 10.0
# The same for all tokens together that nobody made.
STRANGERS_BURST, STRANGERS_EVERY_S = 20, 0.2
# How many certificates a device may have in place of others: each is a row of the register for ever.
RENEWALS_BURST, RENEWALS_EVERY_S = 4, 3600.0
# When somebody may have set a wrong clock.
CLOCK_S = 60.0


class Registrar:
    """Decides. Effects are carried out in their order, and none behind one that failed.

    Before `since`, in unix seconds, it can only be that the clock is wrong.
    """

    def __init__(self, topics: Topics, since: float = 0.0) -> None:
        self._topics = topics
        self._since = since
        self._known = Allowance(BURST, EVERY_S)
        self._renewed = Allowance(RENEWALS_BURST, RENEWALS_EVERY_S)
        self._strangers = Allowance(STRANGERS_BURST, STRANGERS_EVERY_S)

    @singledispatchmethod
    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take an event at `now`, in unix seconds."""
        raise NotImplementedError(f"nobody handles {event!r} at {now}")

    @handle.register
    def _enrolment(self, event: EnrolmentAsked, now: float) -> list[Effect]:
        row = event.found
        if row is None:
            return self._stranger(event, now)
        if wait_s := self._known.wait_s(event.token, now):
            return _refuse(ENROL_REPLY, event.token, event.asked.request, RefusalReason.BUSY, wait_s)
        if now < self._since:
            return self._wrong_clock(ENROL_REPLY, event.token, event.asked.request, now)
        found = self._judge_token(event, row, now)
        if isinstance(found, RefusalReason):
            return _refuse(ENROL_REPLY, event.token, event.asked.request, found)
        order = Order(ENROL_REPLY, event.token, row.device, event.asked.request, found)
        if row.chain is not None:
            return _issue(order, row.chain, now)
        return [Claim(event.token, found), Sign(order)]

    def _stranger(self, event: EnrolmentAsked, now: float) -> list[Effect]:
        if self._strangers.wait_s("", now):
            return []
        return _refuse(ENROL_REPLY, event.token, event.asked.request, RefusalReason.UNKNOWN)

    def _judge_token(self, event: EnrolmentAsked, row: TokenRow, now: float) -> RefusalReason | str:
        """Find why a token is no good, or else the digest of the key that it is used for."""
        topic = self._topics.topic(ENROL_REQUEST, token=event.token)
        if not is_proven(row.public_key, topic, event.asked):
            return RefusalReason.BAD_PROOF
        if row.withdrawn:
            return RefusalReason.REVOKED
        try:
            key = key_digest(event.asked.request)
        except DataError:
            return RefusalReason.BAD_REQUEST
        if row.claimed_by is not None:
            # Its answer may be lost: to the same key it is given again, to no other.
            return key if row.claimed_by == key else RefusalReason.USED
        return key if now < row.expires_unix_s else RefusalReason.EXPIRED

    @handle.register
    def _renewal(self, event: RenewalAsked, now: float) -> list[Effect]:
        if wait_s := self._known.wait_s(event.device, now):
            return _refuse(RENEWED, event.device, event.asked.request, RefusalReason.BUSY, wait_s)
        if now < self._since:
            return self._wrong_clock(RENEWED, event.device, event.asked.request, now)
        found = self._judge_renewal(event, now)
        if isinstance(found, RefusalReason):
            return _refuse(RENEWED, event.device, event.asked.request, found)
        standing, key = found
        order = Order(RENEWED, event.device, event.device, event.asked.request, key, standing.serial)
        if event.last is not None and event.last.claimed_by == key:
            return _issue(order, event.last.chain, now)
        reason, wait_s = self._held_up(event, standing, now)
        if wait_s:
            return _refuse(RENEWED, event.device, event.asked.request, reason, wait_s)
        return [Sign(order)]

    def _held_up(self, event: RenewalAsked, standing: Standing, now: float) -> tuple[RefusalReason, float]:
        if not event.outdated and (wait_s := _wait_s(standing, now)):
            return RefusalReason.TOO_EARLY, wait_s
        return RefusalReason.BUSY, self._renewed.wait_s(event.device, now)

    def _judge_renewal(self, event: RenewalAsked, now: float) -> RefusalReason | tuple[Standing, str]:
        """Find why a certificate gets no successor, or else its standing and the digest of the next key."""
        if not is_shown(self._topics.topic(RENEW, device=event.device), event.asked):
            return RefusalReason.BAD_PROOF
        if event.standing is None:
            return RefusalReason.UNKNOWN
        if event.standing.revoked:
            return RefusalReason.REVOKED
        if now >= event.standing.expires_unix_s:
            return RefusalReason.EXPIRED
        try:
            return event.standing, key_digest(event.asked.request)
        except DataError:
            return RefusalReason.BAD_REQUEST

    @handle.register
    def _signed(self, event: Signed, now: float) -> list[Effect]:
        if event.revoked:
            return _refuse(event.order.branch, event.order.name, event.order.asked, RefusalReason.REVOKED)
        return [Keep(event.order, event.chain), *_issue(event.order, event.chain, now)]

    def _wrong_clock(self, branch: Branch, name: str, request: bytes, now: float) -> list[Effect]:
        """Have the asker wait: what has expired would be good, and what is issued would have expired."""
        device = name if branch is RENEWED else None
        note = Note(f"{name} waits: {wrong_clock(now, self._since)}", "wrong-clock", device, warning=True)
        return [*_refuse(branch, name, request, RefusalReason.BUSY, CLOCK_S), note]


def _wait_s(standing: Standing, now: float) -> float:
    """How long until a certificate is old enough for the next one."""
    life_s = standing.expires_unix_s - standing.issued_unix_s
    return max(0.0, standing.issued_unix_s + life_s * RENEWED_AFTER - now)


def _issue(order: Order, chain: bytes, now: float) -> list[Effect]:
    left_s = max(0.0, not_after(chain).timestamp() - now)
    issued = Issued(request=digest_of(order.asked), chain=chain, renew_after_s=left_s * RENEWED_AFTER)
    return [
        Reply(order.branch, order.name, issued),
        Note(f"{order.device} has a certificate, by {order.name}", "issued", order.device),
    ]


def _refuse(
    branch: Branch,
    name: str,
    request: bytes,
    reason: RefusalReason,
    wait_s: float = 0.0,
) -> list[Effect]:
    refusal = Refusal(request=digest_of(request), reason=reason, wait_s=wait_s)
    reply = Reply(branch, name, refusal)
    # Strangers and the hasty could fill the log.
    if reason in {RefusalReason.UNKNOWN, RefusalReason.BUSY}:
        return [reply]
    device = name if branch is RENEWED else None
    hasty = reason is RefusalReason.TOO_EARLY
    return [reply, Note(f"{name} is refused: {reason}", "refused", device, warning=not hasty)]
