"""The agent's thin shell: one loop that feeds the lifecycle and carries out what it asks for."""

import logging
import os
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from functools import singledispatchmethod
from random import SystemRandom

from broker import events as broker_events
from broker import topics, wire
from broker.advice import advised
from broker.messages import AgentState, Grant, Presence, Receipt
from broker.session import Session, Will
from edge_agent import events
from edge_agent.conditions import find_hindrance
from edge_agent.deeds import Deeds
from edge_agent.disk import Disk
from edge_agent.downloads import Downloads
from edge_agent.identity import Identity
from edge_agent.lifecycle import Lifecycle
from edge_agent.pin import Pin
from edge_agent.reading import read_message
from edge_agent.renewing import Renewing
from edge_agent.settings import AgentSettings
from edge_agent.snapshot import Snapshot
from edge_agent.store import Store
from edge_agent.surroundings import look_around
from edge_agent.training import MODULE, Trainer, TrainerSaid
from edge_agent.uploads import Uploads
from edge_agent.vitals import measure
from edge_agent.voice import Voice
from host.errors import ForgeryError, StorageError, WireError
from host.exits import ExitCode
from host.inbox import Inbox
from host.notify import Notifier

VITALS_S = 2.0
# Of a fleet whose broker was restarted, so many seconds; well before the aggregator misses anybody.
RECONNECT_SPREAD_S = 5.0
# Two windows of chunks, and what else can come at once.
INBOX_LIMIT = 256
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stop:
    """The process was asked to end."""

    why: str


Happening = broker_events.SessionEvent | TrainerSaid | Stop


class Service:
    """One device's agent: `run` returns when `stop` was called or the broker refuses us for good."""

    def __init__(
        self,
        settings: AgentSettings,
        store: Store,
        birth: Presence,
        notifier: Notifier,
        trainer_module: str = MODULE,
    ) -> None:
        self._settings = settings
        self._store = store
        self._disk = Disk(store)
        self._birth = birth
        self._notifier = notifier
        self._topics = settings.broker.topics
        self._inbox: Inbox[Happening] = Inbox(INBOX_LIMIT)
        self._identity = Identity(settings.state_folder, settings.broker)
        self._session = self._new_session()
        self._core = self._new_core(store.load())
        self._pin = Pin(settings.aggregator_key, settings.state_folder)
        self._downloads = Downloads(store, self._session, self._topics)
        self._uploads = Uploads(store, self._session, self._topics, settings.device)
        self._renewing = Renewing(self._identity, self._session, self._topics, settings.device)
        self._trainer = Trainer(settings, store, self._hear_trainer, trainer_module)
        device, key = settings.device, settings.device_key
        voice = Voice(self._session, self._topics, device, key, sealed=settings.sealed)
        self._deeds = Deeds(
            self._disk,
            self._downloads,
            self._uploads,
            self._trainer,
            voice,
            self._sealing_key,
            self._note_drop,
        )
        self._connection: str | None = None
        self._link = f"connecting to {settings.broker.url}"
        self._exit: ExitCode | None = None
        self._unreachable = 0
        self._dropped: Counter[str] = Counter()
        self._overflows = 0
        self._vitals_at = 0.0
        self._watchdog_at = 0.0

    def run(self) -> ExitCode:
        """Work until told to stop; raises ConfigError for unusable credentials, StorageError for the disk."""
        try:
            self._judge_availability()
            self._session.start()
            log.info(
                "%s of %s, broker %s", self._settings.device, self._topics.root, self._settings.broker.url
            )
            if self._pin.key is None:
                topic = self._topics.topic(topics.ROUND)
                log.warning("no aggregator_key is set: obeying whoever can write %s", topic)
            self._notifier.ready()
            while self._exit is None:
                happening = self._inbox.get(self._wait_s(time.monotonic()))
                if happening is not None:
                    self._on(happening)
                self._fire(time.monotonic())
        finally:
            self._end()
        return self._exit

    def stop(self, why: str) -> None:
        """Ask the loop to end; may be called from any thread and from a signal handler."""
        self._inbox.put(Stop(why))

    def _end(self) -> None:
        self._notifier.stopping()
        self._trainer.stop()
        # A displaced agent says nothing: the topic belongs to the other machine.
        speaks = self._connection is not None and self._core.state is not AgentState.DISPLACED
        self._session.stop(self._death(self._connection) if speaks and self._connection else None)

    def _new_session(self) -> Session:
        device = self._settings.device
        return Session(
            self._identity.broker,
            device,
            self._hear,
            will=self._death,
            subscriptions=[(topic, 1) for topic in self._heard_topics()],
            spread_s=RECONNECT_SPREAD_S,
        )

    def _new_core(self, snapshot: Snapshot) -> Lifecycle:
        return Lifecycle(self._settings.device, self._birth, SystemRandom(), snapshot)

    def _sealing_key(self) -> str | None:
        return self._core.snapshot().sealing

    def _heard_topics(self) -> list[str]:
        branches = [topics.FEDERATION, topics.ROUND, topics.INBOX, topics.PRESENCE]
        if self._identity.record.current is not None:
            branches += [topics.RENEWED, topics.CERTIFIER]
        return [self._topics.filter(branch, device=self._settings.device) for branch in branches]

    def _hear(self, event: broker_events.SessionEvent) -> None:
        # Only what others send can come without end.
        if not self._inbox.put(event, droppable=isinstance(event, broker_events.Received)):
            log.debug("the inbox is full: a message was dropped")

    def _hear_trainer(self, said: TrainerSaid) -> None:
        self._inbox.put(said)

    def _death(self, connection: str) -> Will:
        topic = self._topics.topic(topics.PRESENCE, device=self._settings.device)
        return Will(topic, wire.encode(Presence(online=False, connection=connection)), retain=True)

    # Time.

    def _wait_s(self, now: float) -> float:
        deadlines = (
            self._core.next_deadline(),
            self._downloads.next_deadline(),
            self._trainer.next_deadline(),
            self._renewing.next_deadline(),
            self._vitals_at,
            self._watchdog_at if self._notifier.watchdog_s else None,
        )
        return max(0.0, min(at for at in deadlines if at is not None) - now)

    def _fire(self, now: float) -> None:
        self._downloads.fire(now)
        self._renewing.fire(now)
        outcome = self._trainer.fire(now)
        if outcome is not None:
            self._tell(outcome)
        if now >= self._vitals_at:
            self._vitals_at = now + VITALS_S
            self._measure_vitals()
            self._mend_overflow()
            if self._disk.mended(self._core.snapshot(), now):
                log.info("the state folder can be written to again")
                self._hear_again()
            self._judge_availability()
        if self._notifier.watchdog_s and now >= self._watchdog_at:
            self._watchdog_at = now + self._notifier.watchdog_s
            self._notifier.alive()
        deadline = self._core.next_deadline()
        if deadline is not None and now >= deadline:
            self._tell(events.TimerFired())
        self._say_status()

    def _say_status(self) -> None:
        doing = self._core.doing
        part = "" if doing is None else f", run {doing[0]} round {doing[1]}"
        self._notifier.status(f"{self._link}; {self._core.state}{part}")

    def _measure_vitals(self) -> None:
        vitals = measure(pid for pid in (os.getpid(), self._trainer.pid) if pid is not None)
        self._tell(replace(vitals, bytes_up=self._uploads.bytes_up, bytes_down=self._downloads.bytes_down))

    def _judge_availability(self) -> None:
        trainer = [] if self._trainer.pid is None else [self._trainer.pid]
        conditions = look_around(self._settings.state_folder, trainer, self._disk.fault)
        self._tell(events.AvailabilityJudged(find_hindrance(conditions, self._settings)))

    def _mend_overflow(self) -> None:
        """Have the broker send again what it retains: orders may be among what found the inbox full."""
        if self._overflows != self._inbox.dropped:
            self._overflows = self._inbox.dropped
            self._note_drop("overflow", "more came at once than could be read, and was dropped")
            self._hear_again()

    def _hear_again(self) -> None:
        self._session.subscribe([(topic, 1) for topic in self._heard_topics()])

    # What happens outside.

    @singledispatchmethod
    def _on(self, happening: Happening) -> None:
        raise NotImplementedError(f"nobody listens to {happening!r}")

    @_on.register
    def _stop(self, happening: Stop) -> None:
        log.info("stopping: %s", happening.why)
        self._exit = ExitCode.OK

    @_on.register
    def _connected(self, happening: broker_events.Connected) -> None:
        log.info("connected to %s as %s", self._settings.broker.url, self._settings.device)
        self._connection, self._unreachable = happening.connection, 0
        self._link = "connected"
        self._downloads.connected(time.monotonic())
        self._renewing.connected()
        self._tell(events.Connected(happening.connection))

    @_on.register
    def _subscribed(self, happening: broker_events.Subscribed) -> None:
        """What we then hear says the rest."""

    @_on.register
    def _disconnected(self, happening: broker_events.Disconnected) -> None:
        log.warning("disconnected: %s", happening.reason)
        self._connection = None
        self._link = f"disconnected: {happening.reason}"
        self._renewing.disconnected()
        self._uploads.stop()
        self._tell(events.Disconnected())

    @_on.register
    def _unreached(self, happening: broker_events.Unreachable) -> None:
        self._unreachable += 1
        url, why = self._settings.broker.url, advised(happening.reason)
        self._link = f"{url} cannot be reached: {why}"
        # The 1st, 2nd, 4th, 8th ... attempt: a broker away for a day is no thousand lines.
        if self._unreachable.bit_count() == 1:
            log.warning("%s cannot be reached, attempt %d: %s; still trying", url, self._unreachable, why)

    @_on.register
    def _refused(self, happening: broker_events.Refused) -> None:
        broker, why = self._settings.broker, advised(happening.reason)
        log.warning("%s refuses us, %d times in a row: %s", broker.url, happening.in_a_row, why)
        self._link = f"refused by the broker: {why}"
        if self._renewing.refused():
            return
        if happening.in_a_row >= broker.refusals_before_exit:
            log.error("giving up: check username, password_file and certificates of [broker]")
            self._exit = ExitCode.REFUSED_CREDENTIALS

    @_on.register
    def _acknowledged(self, happening: broker_events.Acknowledged) -> None:
        if not happening.ok:
            self._note_drop("denied", f"the broker denied a message of ours: {happening.reason}; see its ACL")
        self._tell(*self._uploads.acknowledged(happening.ticket))

    @_on.register
    def _received(self, happening: broker_events.Received) -> None:
        address = self._topics.parse(happening.topic)
        if address is None or not (happening.payload or address.branch is topics.PRESENCE):
            return
        try:
            told = self._read(address, happening)
            if any(isinstance(event, events.Fetched | Receipt) for event in told):
                # What ends a transfer has a heartbeat sent at once: it is to have all the bytes.
                self._measure_vitals()
            self._tell(*told)
        except ForgeryError as error:
            self._note_drop("forged", f"an announcement on {happening.topic} was dropped: {error}")
        except WireError as error:
            self._note_drop(address.branch.pattern, f"a message on {happening.topic} was dropped: {error}")

    @_on.register
    def _trainer_said(self, happening: TrainerSaid) -> None:
        outcome = self._trainer.understand(happening, time.monotonic())
        if outcome is not None:
            self._tell(outcome)

    def _read(self, address: topics.Address, message: broker_events.Received) -> list[events.Event]:
        """Make events of a message; raises WireError."""
        if address.branch is topics.RENEWED:
            self._renewing.answered(message.payload)
            return []
        if address.branch is topics.CERTIFIER:
            self._renewing.certifier(message.payload)
            return []
        if address.branch is topics.BLOB_CHUNK:
            digest, index = address.fields["digest"], int(address.fields["index"])
            return [*self._downloads.chunk(digest, index, message.payload, time.monotonic())]
        told = read_message(address.branch, message, self._pin.key, sealed=self._settings.sealed)
        if address.branch is topics.ROUND:
            self._pin.follow(message.topic, message.payload)
        # What an answer settles could not be kept now; it is given again when we offer again.
        return [event for event in told if not (self._disk.fault and isinstance(event, Grant | Receipt))]

    def _note_drop(self, kind: str, text: str) -> None:
        """Count, and say it once a kind."""
        self._dropped[kind] += 1
        if self._dropped[kind] == 1:
            log.warning("%s (further ones are only counted)", text)

    # What the lifecycle asks for.

    def _tell(self, *told: events.Event) -> None:
        """Give events to the lifecycle, and what becomes of its effects too, until all is quiet."""
        waiting = deque(told)
        while waiting:
            before = self._core.state
            try:
                for effect in self._core.handle(waiting.popleft(), time.monotonic()):
                    waiting.extend(self._deeds.carry_out(effect, time.monotonic()))
            except StorageError as error:
                self._fall_back(error)
                return
            if self._core.state is not before:
                log.info("%s -> %s", before, self._core.state)

    def _fall_back(self, error: StorageError) -> None:
        """Go on from what is on the disk, as after a crash, but connected, to say why we do nothing."""
        first = self._disk.failures == 1
        if first:
            log.error("%s; declining until it can be written to again", error)
        for part in (self._trainer, self._downloads, self._uploads):
            part.stop()
        # How far announcements have come, it must know to decline the newest; nothing is lost with it.
        heard = self._core.snapshot().model_dump(include={"session", "sequence"})
        self._core = self._new_core(self._store.load().model_copy(update=heard))
        self._judge_availability()
        if self._connection is not None:
            self._tell(events.Connected(self._connection))
            if first:
                self._hear_again()
