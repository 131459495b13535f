"""A look before an aggregator speaks: whether another one serves this federation already.

The last word of an aggregator is retained under `monitor/aggregator`, and its beat renews it. The clocks of
two machines cannot be compared, so a retained word proves nothing: whoever lives beats while we listen.
"""

import logging
import threading
from dataclasses import dataclass
from time import monotonic

from pydantic import ValidationError

from broker.advice import advised
from broker.events import Connected, Disconnected, Received, Refused, SessionEvent, Subscribed, Unreachable
from broker.messages import Federation
from broker.monitor import AggregatorDocument
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import FEDERATION, MONITOR_AGGREGATOR
from broker.wire import decode
from host.errors import WireError
from host.exits import ExitCode
from host.inbox import Inbox
from host.notify import Notifier

MISSED_BEATS = 3
DEFAULT_BEAT_S = 5.0
MAX_BEAT_S = 60.0
# What is retained comes with the answer to the subscription, or right behind it.
GRACE_S = 0.5
WAIT_S = 0.5

log = logging.getLogger(__name__)


class Lookout:
    """What is heard of other aggregators, and what follows; pure, times in seconds of the caller's clock.

    `own` is the session number of this ledger's last process: it is dead, or its ledger would be locked.
    """

    def __init__(self, own: int, *, take_over: bool) -> None:
        self._own = own
        self._take_over = take_over
        self._due: float | None = None
        self.rival: AggregatorDocument | None = None
        """The aggregator that lives, as it said while we listened."""
        self.highest = 0
        """The highest session number heard of."""

    def listening(self, now: float) -> None:
        """The subscriptions stand: from here on silence says something."""
        self._due = now + GRACE_S

    def cut_off(self) -> None:
        """We hear nothing: silence says nothing."""
        self._due = None

    def heard_session(self, session: int) -> None:
        """Note the session number of a `federation` message."""
        self.highest = max(self.highest, session)

    def heard(self, document: AggregatorDocument, now: float, *, retained: bool) -> None:
        """Judge the last word of an aggregator, or its beat."""
        self.heard_session(document.session)
        if not document.online or (retained and document.session == self._own) or self._take_over:
            self._due = now
        elif retained:
            beat_s = min(document.renewed_every_s, MAX_BEAT_S) or DEFAULT_BEAT_S
            self._due = now + MISSED_BEATS * beat_s
            log.warning(
                "session %d of an aggregator is said to serve this federation: listening %.0f s for its beat",
                document.session,
                MISSED_BEATS * beat_s,
            )
        else:
            self.rival = document

    def decided(self, now: float) -> bool:
        """Whether the federation is known to be taken, or to be free."""
        return self.rival is not None or (self._due is not None and now >= self._due)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look found: the exit code when we must not serve, and the number to be above when we may."""

    exit: ExitCode | None
    above: int = 0


def look(
    settings: BrokerSettings, own: int, notifier: Notifier, stopping: threading.Event, *, take_over: bool
) -> Finding:
    """Listen until it is known whether another aggregator lives; as long as the broker is out of reach, wait.

    Under a random client id: under our own we would end the session that we look for.
    """
    topics, lookout = settings.topics, Lookout(own, take_over=take_over)
    inbox: Inbox[SessionEvent] = Inbox(1000)
    subscriptions = [(topics.topic(branch), 1) for branch in (FEDERATION, MONITOR_AGGREGATOR)]
    anyone = settings.model_copy(update={"client_id": None})
    name = f"midge-{topics.federation}-lookout"
    session = Session(anyone, name, inbox.put, will=None, subscriptions=subscriptions)
    session.start()
    try:
        while not (stopping.is_set() or lookout.decided(monotonic())):
            notifier.alive()
            event = inbox.get(WAIT_S)
            if isinstance(event, Refused) and _refused(settings, event):
                return _refusal(settings)
            if event is not None:
                _hear(lookout, settings, event)
    finally:
        session.stop()
    if stopping.is_set():
        return Finding(ExitCode.OK)
    if lookout.rival is not None:
        _complain(lookout.rival)
        return Finding(ExitCode.ANOTHER_AGGREGATOR)
    return Finding(None, lookout.highest)


def _hear(lookout: Lookout, settings: BrokerSettings, event: SessionEvent) -> None:
    match event:
        case Subscribed(ok):
            if not ok:
                log.warning(
                    "cannot look for another aggregator: our account may not read `federation` and "
                    "`monitor/aggregator`; see the rights in docs/operations.md"
                )
            lookout.listening(monotonic())
        case Received():
            _read(lookout, settings, event)
        case Disconnected():
            lookout.cut_off()
        case Unreachable(reason):
            log.warning("%s cannot be reached: %s; still trying", settings.url, advised(reason))
        case Connected() | _:
            pass


def _read(lookout: Lookout, settings: BrokerSettings, message: Received) -> None:
    try:
        if message.topic == settings.topics.topic(FEDERATION):
            lookout.heard_session(decode(Federation, message.payload).session)
        elif message.payload:
            document = AggregatorDocument.model_validate_json(message.payload)
            lookout.heard(document, monotonic(), retained=message.retained)
    except (WireError, ValidationError) as error:
        log.warning("%s holds what no aggregator of ours says: %s", message.topic, error)


def _refused(settings: BrokerSettings, event: Refused) -> bool:
    limit = settings.refusals_before_exit
    log.error("the broker refused our credentials (%d of %d): %s", event.in_a_row, limit, event.reason)
    return event.in_a_row >= limit


def _refusal(settings: BrokerSettings) -> Finding:
    if settings.client_id is None:
        return Finding(ExitCode.REFUSED_CREDENTIALS)
    log.warning("cannot look for another aggregator: the broker takes us under client_id only")
    return Finding(None)


def _complain(rival: AggregatorDocument) -> None:
    log.error(
        "another aggregator (session %d, midge %s) serves this federation and is alive: stop that one first, "
        "or start this one with --take-over, which ends the other",
        rival.session,
        rival.version,
    )
