"""A device's first certificate: by token, on the listener that asks for none, for as long as it takes.

The key is made here and never leaves. It is on the disk before it is asked for, so that a power cut at any
time costs nothing: the same key asks again, and the registrar answers it alike. The token goes last.
"""

import logging
import threading
import time
from functools import singledispatchmethod
from pathlib import Path
from random import SystemRandom

from broker import events, wire
from broker.advice import advised
from broker.enrolment import (
    REFUSALS,
    Answer,
    EnrolmentRequest,
    Issued,
    Refusal,
    RefusalReason,
    Token,
    digest_of,
)
from broker.messages import Message
from broker.session import Session
from broker.topics import ENROL_REPLY, ENROL_REQUEST
from edge_agent.backoff import Backoff
from edge_agent.identity import Identity, shred
from edge_agent.renewing import require_ours, roots_of
from edge_agent.settings import AgentSettings
from host.errors import ConfigError, DataError, WireError
from host.files import write_atomic
from host.inbox import Inbox
from host.notify import Notifier

PASSWORD = "token.password"  # noqa: S105 - the name of a file
INBOX_LIMIT = 64
WAIT_S = 0.5
# What is refused, an operator has to mend.
REFUSED_S = 300.0
# How long an answer may take, beside the back-off.
ANSWER_S = 5.0
# With a certificate that is still there, a token that is no use is given up.
PATIENCE_S = 60.0
MAX_TOKEN_BYTES = 256

log = logging.getLogger(__name__)


def enrol(settings: AgentSettings, notifier: Notifier, stopping: threading.Event) -> None:
    """Use the token of the settings, if there is one; returns with a certificate, or when `stopping` is set.

    Raises ConfigError when there is neither certificate nor usable token, StorageError for the disk.
    """
    if settings.enrolment is None:
        return
    identity, path = Identity(settings.state_folder, settings.broker), settings.enrolment.token_file
    token = _read(path, needed=identity.record.current is None)
    if token is None:
        return
    if token.id != identity.record.token:
        notifier.ready()
        if not Enrolling(settings, identity, token).run(notifier, stopping):
            return
    # One that lost its power could not.
    (settings.state_folder / PASSWORD).unlink(missing_ok=True)
    _remove(path)


class Enrolling:
    """One device's enrolment with one token."""

    def __init__(self, settings: AgentSettings, identity: Identity, token: Token) -> None:
        # Loaded for this alone: an idle agent is spared its memory.
        from host.certificates import request  # noqa: PLC0415

        assert settings.enrolment is not None
        self._device = settings.device
        self._identity = identity
        self._token = token
        self._password = settings.state_folder / PASSWORD
        self._broker = settings.broker.at(settings.enrolment.url, token.id, self._password)
        topics = self._broker.topics
        self._topic = topics.topic(ENROL_REQUEST, token=token.id)
        self._request = request(identity.pending_key(), settings.device)
        self._message = wire.encode(
            EnrolmentRequest(request=self._request, proof=token.prove(self._topic, self._request))
        )
        self._inbox: Inbox[events.SessionEvent] = Inbox(INBOX_LIMIT)
        reply = topics.topic(ENROL_REPLY, token=token.id)
        self._session = Session(self._broker, token.id, self._hear, will=None, subscriptions=[(reply, 1)])
        self._backoff = Backoff(SystemRandom())
        self._ask_at: float | None = None
        self._asked, self._failures = 0, 0
        self._enrolled = False

    def run(self, notifier: Notifier, stopping: threading.Event) -> bool:
        """Ask until there is a certificate; False when stopped, or when the one that is there has to do."""
        log.info("enrolling %s with its token at %s", self._device, self._broker.url)
        notifier.status("waiting for the registrar's certificate")
        write_atomic(self._password, self._token.password.encode(), mode=0o600)
        give_up_at = None if self._identity.record.current is None else time.monotonic() + PATIENCE_S
        self._session.start()
        try:
            while not (self._enrolled or stopping.is_set()):
                notifier.alive()
                event = self._inbox.get(WAIT_S)
                if event is not None:
                    self._on(event)
                self._ask(time.monotonic())
                if give_up_at is not None and time.monotonic() > give_up_at:
                    log.warning("no certificate for the token: going on with the one that is there")
                    break
        finally:
            self._session.stop()
            self._password.unlink(missing_ok=True)
        return self._enrolled

    def _hear(self, event: events.SessionEvent) -> None:
        self._inbox.put(event, droppable=isinstance(event, events.Received))

    def _ask(self, now: float) -> None:
        if self._ask_at is None or now < self._ask_at:
            return
        self._asked += 1
        # The 1st, 2nd, 4th, 8th ... time: a registrar away for a day is no thousand lines.
        if self._asked.bit_count() == 1:
            log.info("asking the registrar for a certificate, attempt %d", self._asked)
        self._session.publish(self._topic, self._message, qos=ENROL_REQUEST.qos)
        self._ask_at = now + ANSWER_S + self._backoff.delay_s()

    @singledispatchmethod
    def _on(self, event: events.SessionEvent) -> None:
        """Take what needs no answer."""

    @_on.register
    def _subscribed(self, _event: events.Subscribed) -> None:
        if self._ask_at is None:
            self._ask_at = time.monotonic()

    @_on.register
    def _unreached(self, event: events.Unreachable | events.Refused | events.Disconnected) -> None:
        self._failures += 1
        if self._failures.bit_count() == 1:
            why = advised(event.reason)
            log.warning("waiting for %s, attempt %d: %s", self._broker.url, self._failures, why)

    @_on.register
    def _received(self, event: events.Received) -> None:
        try:
            # The adapter takes unions as well, which type[M] cannot say.
            answer: Message = wire.decode(Answer, event.payload)  # type: ignore[arg-type]
            assert isinstance(answer, Issued | Refusal)
            if answer.request != digest_of(self._request):
                return
            if isinstance(answer, Refusal):
                self._wait(answer)
            else:
                self._adopt(answer)
        except WireError as error:
            log.warning("an answer was dropped: %s", error)

    def _wait(self, refusal: Refusal) -> None:
        if refusal.reason is not RefusalReason.BUSY:
            log.warning("the registrar refuses the token: %s", REFUSALS[refusal.reason])
        pause_s = refusal.wait_s if refusal.reason is RefusalReason.BUSY else REFUSED_S
        self._ask_at = time.monotonic() + pause_s + self._backoff.delay_s()

    def _adopt(self, issued: Issued) -> None:
        require_ours(issued.chain, self._identity.pending_key(), self._device)
        roots = roots_of(issued, self._broker.topics, self._identity.roots(configured=True))
        self._identity.adopt(issued.chain, roots, token=self._token.id)
        self._identity.note(issued.renew_after_s, time.time())
        log.info("%s is enrolled", self._device)
        self._enrolled = True


def _read(path: Path, *, needed: bool) -> Token | None:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TOKEN_BYTES).decode(errors="replace")
    except FileNotFoundError:
        text = ""
    except OSError as error:
        raise ConfigError(f"enrolment.token_file {path} cannot be used: {error.strerror}") from None
    # systemd hands over an empty line for a file that is not there.
    if not text.strip():
        if not needed:
            return None
        raise ConfigError(
            f"enrolment.token_file {path} is not there, and there is no certificate yet: make a token "
            "(midge enroll --token), and put it there"
        )
    try:
        return Token.read(text)
    except DataError as error:
        raise ConfigError(f"enrolment.token_file {path} cannot be used: {error}") from None


def _remove(path: Path) -> None:
    try:
        shred(path)
    except OSError as error:
        # One that systemd handed over is a copy that cannot be.
        log.info("the used token %s stays: %s; it is worth nothing any more", path, error.strerror)
