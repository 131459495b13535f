"""Certificates renew themselves: ask the registrar in time, change over, go back if the broker objects."""

import logging
import time
from collections.abc import Sequence
from random import SystemRandom

from broker import wire
from broker.enrolment import REFUSALS, Answer, Issued, Refusal, RefusalReason, RenewalRequest, digest_of, show
from broker.messages import Message
from broker.session import Session
from broker.topics import CERTIFIER, RENEW, Topics
from broker.trust import Certifier, check, fingerprints
from edge_agent.identity import Identity
from edge_agent.schedule import LONGEST_PAUSE_S, Schedule
from host.errors import DataError, MidgeError, WireError

log = logging.getLogger(__name__)


class Renewing:
    """One device's certificate, for as long as the agent runs; idle without one."""

    def __init__(
        self,
        identity: Identity,
        session: Session,
        topics: Topics,
        device: str,
        schedule: Schedule | None = None,
    ) -> None:
        self._identity = identity
        self._session = session
        self._topics = topics
        self._device = device
        self._schedule = schedule or Schedule(SystemRandom())
        self._asked: bytes | None = None
        self._heeded: Certifier | None = None
        self._connected = False
        if identity.record.current is not None:
            record = identity.record
            self._schedule.start(time.monotonic(), time.time(), record.noted_unix_s, record.renew_unix_s)

    def next_deadline(self) -> float | None:
        """When `fire` is to be called, by time.monotonic."""
        return self._schedule.ask_at if self._connected else None

    def connected(self) -> None:
        """Note that the broker accepted the certificate of now."""
        self._connected = True
        try:
            self._identity.confirm()
        except MidgeError as error:
            log.warning("the certificate before the one in use is kept: %s", error)

    def disconnected(self) -> None:
        """Ask nothing while nobody can hear it."""
        self._connected = False

    def refused(self) -> bool:
        """Go back to the certificate before, if this one was never accepted; whether that was done."""
        try:
            if not self._identity.go_back():
                return False
        except MidgeError as error:
            log.error("cannot go back to the certificate before: %s", error)  # noqa: TRY400 - one line says it
            return False
        log.error("the broker refuses the renewed certificate: going back to the one before")
        self._wait(LONGEST_PAUSE_S)
        self._session.use(self._identity.broker)
        return True

    def fire(self, now: float) -> None:
        """Ask, if it is time to."""
        if not self._connected or now < self._schedule.ask_at:
            return
        self._schedule.asked(now)
        try:
            self._ask()
        except (MidgeError, OSError) as error:
            log.warning("the certificate cannot be renewed now: %s", error)

    def certifier(self, payload: bytes) -> None:
        """Hear who certifies devices now, and ask soon where we are another's; raises WireError."""
        told = wire.decode(Certifier, payload)
        # Said again at every connection: who was refused then waits as it was told.
        if told == self._heeded:
            return
        self._heeded = told
        try:
            issuers = fingerprints(self._identity.pair()[1])[1:]
            strays = told.issuer not in issuers or self._other_roots(told.roots)
        except MidgeError as error:
            log.warning("whether the authority changed cannot be told: %s", error)
            return
        if strays:
            log.info("the authority changes: renewing the certificate within %.0f s", told.within_s)
            self._schedule.hurry(told.within_s, time.monotonic())

    def _other_roots(self, told: Sequence[str]) -> tuple[str, ...]:
        """Those that we trust, if others are to be; a broker that is not the authority's is left alone."""
        ours = fingerprints(self._identity.roots())
        return ours if set(ours) & set(told) and set(ours) != set(told) else ()

    def answered(self, payload: bytes) -> None:
        """Hear the registrar; raises WireError for what is no answer."""
        # The adapter takes unions as well, which type[M] cannot say.
        answer: Message = wire.decode(Answer, payload)  # type: ignore[arg-type]
        assert isinstance(answer, Issued | Refusal)
        if self._asked is None or answer.request != digest_of(self._asked):
            log.debug("an answer to another request was dropped")
            return
        self._asked = None
        if isinstance(answer, Refusal):
            self._refuse(answer)
        else:
            self._adopt(answer)

    def _ask(self) -> None:
        # Loaded for this alone: an idle agent is spared its memory.
        from host.certificates import request  # noqa: PLC0415

        self._asked = request(self._identity.pending_key(), self._device)
        topic = self._topics.topic(RENEW, device=self._device)
        key, certificate = self._identity.pair()
        message = RenewalRequest(
            request=self._asked,
            certificate=certificate,
            proof=show(key, topic, self._asked),
            roots=() if self._heeded is None else self._other_roots(self._heeded.roots),
        )
        log.info("asking the registrar whether to renew the certificate")
        self._session.publish(topic, wire.encode(message), qos=RENEW.qos)

    def _refuse(self, refusal: Refusal) -> None:
        if refusal.reason in {RefusalReason.TOO_EARLY, RefusalReason.BUSY}:
            self._wait(refusal.wait_s)
        else:
            log.warning("the registrar does not renew the certificate: %s", REFUSALS[refusal.reason])
            self._wait(max(refusal.wait_s, LONGEST_PAUSE_S))

    def _adopt(self, issued: Issued) -> None:
        require_ours(issued.chain, self._identity.pending_key(), self._device)
        try:
            roots = roots_of(issued, self._topics, self._identity.roots())
            self._identity.adopt(issued.chain, roots)
        except MidgeError as error:
            log.warning("the renewed certificate cannot be kept: %s; asking again later", error)
            return
        log.info("the certificate is renewed: changing over")
        self._wait(issued.renew_after_s)
        self._session.use(self._identity.broker)

    def _wait(self, wait_s: float) -> None:
        wait_s = self._schedule.told(wait_s, time.monotonic())
        try:
            self._identity.note(wait_s, time.time())
        except MidgeError as error:
            log.warning("when to renew the certificate cannot be kept: %s", error)


def roots_of(issued: Issued, topics: Topics, trusted: bytes) -> bytes | None:
    """Whom to trust from now on, as PEM, who trusts these; None: as before.

    Roots that nobody vouches for whom we trust are not taken; nor are those of an authority that is not the
    broker's.
    """
    trust = issued.trust
    try:
        if trust is None or not set(fingerprints(trusted)) & set(fingerprints(trust.roots)):
            return None
        check(trust, topics.topic(CERTIFIER), trusted)
    except MidgeError as error:
        log.warning("going on with the roots of before: %s", error)
        return None
    return trust.roots


def require_ours(chain: bytes, key: bytes, device: str) -> None:
    """Raise WireError unless a certificate is for this key and this device."""
    from host import certificates  # noqa: PLC0415

    try:
        certificates.chain(chain)
        name, fits = certificates.common_name(chain), certificates.belongs(chain, key)
    except DataError as error:
        raise WireError(f"the registrar's answer holds no certificate: {error}") from None
    if not fits or name != device:
        raise WireError(f"the registrar's certificate is for {name!r}, or for another key: it is not used")
