"""The registrar's thin shell: one loop that reads requests, asks the core, and carries out what it says."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatchmethod

from broker import events as broker_events
from broker import topics, wire
from broker.advice import advised
from broker.enrolment import MAX_CHAIN_BYTES, MAX_REQUEST_BYTES, EnrolmentRequest, Issued, RenewalRequest
from broker.session import Session
from broker.trust import Certifier, Trust, fingerprints, vouch
from deploy.pki.authority import Authority
from deploy.pki.succession import Stage, successor_of
from deploy.registrar import events
from deploy.registrar.allowance import Allowance
from deploy.registrar.core import Registrar
from deploy.registrar.settings import RegistrarSettings
from deploy.registrar.standing import is_current, is_outdated, standing_of
from deploy.registrar.tokens import Tokens
from host.certificates import serial
from host.errors import MidgeError, WireError
from host.exits import ExitCode
from host.inbox import Inbox
from host.notify import Notifier

INBOX_LIMIT = 256
MAX_ASKED_BYTES = MAX_REQUEST_BYTES + MAX_CHAIN_BYTES + 1024
# How often each may knock. What is let in is judged, which takes milliseconds, and may be told to wait.
DOOR_BURST, DOOR_EVERY_S = 20, 1.0
# So that the watchdog is fed, and a signal noticed.
LONGEST_WAIT_S = 2.0
HEARD = (topics.ENROL_REQUEST, topics.RENEW)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stop:
    """The process was asked to end."""

    why: str


class Service:
    """Answers until `stop`, or until the broker refuses us for good; raises ConfigError, StorageError."""

    def __init__(self, settings: RegistrarSettings, notifier: Notifier) -> None:
        self._settings = settings
        self._notifier = notifier
        self._topics = settings.broker.topics
        self._authority = Authority.load(settings.authority)
        self._stage = successor_of(settings.authority)[0]
        self._tokens = Tokens(settings.tokens)
        self._core = Registrar(self._topics, self._authority.issuers[0].made_at.timestamp())
        # Of the session's thread alone.
        self._door = Allowance(DOOR_BURST, DOOR_EVERY_S)
        self._inbox: Inbox[broker_events.SessionEvent | Stop] = Inbox(INBOX_LIMIT)
        self._session = Session(
            settings.broker,
            "registrar",
            self._hear,
            will=None,
            subscriptions=[(self._topics.filter(branch), 1) for branch in HEARD],
        )
        self._unreachable = 0
        self._exit: ExitCode | None = None

    def run(self) -> ExitCode:
        """Serve."""
        self._session.start()
        try:
            self._notifier.ready()
            log.info("registrar of %s, broker %s", self._topics.root, self._settings.broker.url)
            while self._exit is None:
                happening = self._inbox.get(min(self._notifier.watchdog_s or LONGEST_WAIT_S, LONGEST_WAIT_S))
                self._follow_authority()
                if happening is not None:
                    self._on(happening)
                self._notifier.alive()
        finally:
            self._notifier.stopping()
            self._session.stop()
        return self._exit

    def stop(self, why: str) -> None:
        """Ask the loop to end; may be called from any thread and from a signal handler."""
        self._inbox.put(Stop(why))

    def _hear(self, event: broker_events.SessionEvent) -> None:
        """Let in what can be a request, of nobody so many that others find no room; the dropped ask again."""
        if not isinstance(event, broker_events.Received):
            self._inbox.put(event)
        elif len(event.payload) <= MAX_ASKED_BYTES and not self._door.wait_s(event.topic, time.monotonic()):
            self._inbox.put(event, droppable=True)

    @singledispatchmethod
    def _on(self, happening: broker_events.SessionEvent | Stop) -> None:
        """Take what needs no answer."""

    @_on.register
    def _stop(self, happening: Stop) -> None:
        log.info("stopping: %s", happening.why, extra={"event": "stopping"})
        self._exit = ExitCode.OK

    @_on.register
    def _connected(self, _happening: broker_events.Connected) -> None:
        self._unreachable = 0
        log.info("connected to %s", self._settings.broker.url, extra={"event": "connected"})

    @_on.register
    def _subscribed(self, happening: broker_events.Subscribed) -> None:
        if happening.ok:
            self._notifier.status("connected, answering devices")
            self._say_certifier()
        else:
            self._notifier.status("connected, but may not hear requests")
            log.error("the broker does not let us hear requests: give the registrar's account its rights")

    @_on.register
    def _disconnected(self, happening: broker_events.Disconnected) -> None:
        log.warning("disconnected: %s", happening.reason, extra={"event": "disconnected"})
        self._notifier.status("disconnected")

    @_on.register
    def _unreached(self, happening: broker_events.Unreachable) -> None:
        self._unreachable += 1
        if self._unreachable.bit_count() == 1:
            why = advised(happening.reason)
            log.warning("%s cannot be reached: %s; still trying", self._settings.broker.url, why)

    @_on.register
    def _refused(self, happening: broker_events.Refused) -> None:
        broker, why = self._settings.broker, advised(happening.reason)
        log.warning("%s refuses us, %d times in a row: %s", broker.url, happening.in_a_row, why)
        if happening.in_a_row >= broker.refusals_before_exit:
            log.error("giving up: check username, password_file and certificates of [broker]")
            self._exit = ExitCode.REFUSED_CREDENTIALS

    @_on.register
    def _acknowledged(self, happening: broker_events.Acknowledged) -> None:
        if not happening.ok:
            log.error("the broker denied an answer of ours: %s; see its ACL", happening.reason)

    @_on.register
    def _received(self, happening: broker_events.Received) -> None:
        address = self._topics.parse(happening.topic)
        # Retained by somebody, it would be asked again at every start.
        if address is None or happening.retained:
            return
        try:
            self._tell(self._read(address, happening.payload))
        except WireError as error:
            log.debug("a message on %s was dropped: %s", happening.topic, error)
        except MidgeError as error:
            log.error("no answer on %s: %s", happening.topic, error)  # noqa: TRY400 - one line says it

    def _read(self, address: topics.Address, payload: bytes) -> events.Event:
        fields: Mapping[str, str] = address.fields
        if address.branch is topics.ENROL_REQUEST:
            enrolment = wire.decode(EnrolmentRequest, payload)
            return events.EnrolmentAsked(fields["token"], enrolment, self._tokens.find(fields["token"]))
        device, renewal = fields["device"], wire.decode(RenewalRequest, payload)
        standing = standing_of(self._authority, device, renewal.certificate)
        last = self._tokens.renewed(device)
        if last is not None and not is_current(self._authority, last.chain):
            last = None
        outdated = is_outdated(self._authority, renewal)
        return events.RenewalAsked(device, renewal, standing, last, outdated)

    def _tell(self, event: events.Event) -> None:
        """Carry out what the core says; one that fails ends it, so that nothing is said before it is kept."""
        for effect in self._core.handle(event, time.time()):
            self._do(effect)

    @singledispatchmethod
    def _do(self, effect: events.Effect) -> None:
        raise NotImplementedError(f"nobody carries out {effect!r}")

    @_do.register
    def _claim(self, effect: events.Claim) -> None:
        self._tokens.claim(effect.token, effect.key)

    @_do.register
    def _sign(self, effect: events.Sign) -> None:
        order = effect.order
        days = self._settings.certificate_days
        chain = self._authority.sign(order.device, topics.Role.DEVICE, order.asked, days=days)
        # Who revoked the device before this row was there has not revoked it with the others.
        revoked = order.serial is not None and self._authority.is_revoked(order.device, order.serial)
        if revoked:
            self._authority.revoke(serial(chain))
        self._tell(events.Signed(order, chain, revoked))

    @_do.register
    def _keep(self, effect: events.Keep) -> None:
        order = effect.order
        if order.branch is topics.ENROL_REPLY:
            self._tokens.keep_enrolment(order.name, effect.chain)
        else:
            self._tokens.keep_renewal(order.device, order.key, effect.chain)

    @_do.register
    def _reply(self, effect: events.Reply) -> None:
        self.answer(effect)

    def answer(self, effect: events.Reply) -> None:
        """Publish an answer; one that cannot be sent is given again when asked for."""
        topic = self._topics.topic(effect.branch, token=effect.name, device=effect.name)
        answer = effect.answer
        if isinstance(answer, Issued):
            answer = answer.model_copy(update={"trust": self._trust()})
        if self._session.publish(topic, wire.encode(answer), qos=effect.branch.qos) is None:
            log.warning("an answer on %s could not be sent; it is given again when asked for", topic)

    # The authority, which may give way to another.

    def _follow_authority(self) -> None:
        """Read it again when `midge rotate ca` went a step further, and let devices know."""
        stage, _ = successor_of(self._settings.authority)
        if stage is self._stage:
            return
        try:
            self._authority = Authority.load(self._settings.authority)
        except MidgeError as error:
            log.error("the authority cannot be read again: %s", error)  # noqa: TRY400 - one line says it
            return
        self._stage = stage
        log.info("the authority changes: %s", stage or "the new one is alone")
        self._say_certifier()

    def _say_certifier(self) -> None:
        authority = self._authority
        # Devices would renew now to trust both, and once more when the other one signs.
        if authority.stage is Stage.TRUSTED:
            return
        (issuer,) = fingerprints(authority.intermediate)
        certifier = Certifier(
            issuer=issuer,
            roots=fingerprints(authority.roots),
            within_s=self._settings.renew_within_s,
        )
        topic = self._topics.topic(topics.CERTIFIER)
        self._session.publish(topic, wire.encode(certifier), qos=topics.CERTIFIER.qos, retain=True)

    def _trust(self) -> Trust:
        """The roots of now, vouched for by the older authority, which everybody trusts as yet."""
        voucher = self._authority.issuers[0]
        topic = self._topics.topic(topics.CERTIFIER)
        return vouch(voucher.key, voucher.intermediate, topic, self._authority.roots)

    @_do.register
    def _note(self, effect: events.Note) -> None:
        level = logging.WARNING if effect.warning else logging.INFO
        log.log(level, "%s", effect.text, extra={"event": effect.event, "device": effect.device})
