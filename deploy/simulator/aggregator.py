"""The aggregator: its real core, ledger and transfers, in a process that can end at any step."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.deeds import Deeds
from aggregator.intake import IntakeLimits
from aggregator.records import Incident
from aggregator.room import EVERY_S as ROOM_EVERY_S
from broker import events as broker_events
from broker import topics as tree
from broker.layout import Layout
from broker.messages import BlobRef, Heartbeat, Message, Offer, Presence, Receipt, Report
from broker.topics import Topics
from deploy.simulator.clock import Clock
from deploy.simulator.disk import MemoryLedger, SimulatedSpool
from deploy.simulator.fates import require
from deploy.simulator.judge import Judge
from deploy.simulator.network import Broker, Line
from deploy.simulator.post import SimulatedPost
from deploy.simulator.process import Process
from deploy.simulator.scenario import Scenario, Troubles
from deploy.simulator.session import Delivered, Happening, SimulatedSession
from deploy.simulator.workers import SimulatedJobs, SimulatedPublisher, SimulatedRoom, SimulatedUploads
from deploy.simulator.workshop import Workshop
from host.errors import NoRoomError

LINE = Line(up=1e7, down=1e7, delay_s=0.002)
UNIX_S = 1_750_000_000.0
BLOB_EXPIRY_S = 7 * 86_400
HEARD = (tree.PRESENCE, tree.HEARTBEAT, tree.OFFER, tree.REPORT, tree.UPDATE_CHUNK)
DOWN_S = (0.5, 20.0)
_ABSENT_LAYOUT = Layout(trainable=((1,),))


class Aggregator(Process):
    """One aggregator's machine; `boot` starts the process, which `crash` ends."""

    def __init__(
        self,
        scenario: Scenario,
        clock: Clock,
        broker: Broker,
        topics: Topics,
        judge: Judge,
        trace: Callable[[str, object], None],
        truth: Callable[[str], str],
        troubles: Callable[[], Troubles],
    ) -> None:
        super().__init__(clock)
        self._scenario = scenario
        self._broker = broker
        self._topics = topics
        self._judge = judge
        self._trace = trace
        self._truth = truth
        self._troubles = troubles
        self.spool = SimulatedSpool(self.disk)
        self.ledger = MemoryLedger(lambda: UNIX_S + clock.now)
        self._blobs: set[BlobRef] = set()
        """Those whose files are there."""
        self._unread: list[Happening] = []

    # -- life --------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start a process on what the disk holds."""
        if self.running:
            return
        self._begin()
        self._unread = []
        wrong = self._clock.happens(self._troubles().clock_is_wrong)
        number = self.ledger.next_session(self._clock.now + (0.0 if wrong else UNIX_S))
        self._judge.session_began(number)
        snapshot, now = self.ledger.snapshot(), self._clock.now
        heartbeat_s = self._scenario.heartbeat_s
        self.core = (
            Coordinator(heartbeat_s, now)
            if snapshot is None
            else Coordinator.restore(snapshot, heartbeat_s, now)
        )
        self.session = SimulatedSession(
            self._clock,
            self._broker,
            LINE,
            self._hear,
            last_words=None,
            presence="",
            subscriptions=[self._topics.filter(branch) for branch in HEARD],
            reachable=self._reaches_the_broker,
        )
        self._post = SimulatedPost(self.session, self._topics, number, heartbeat_s, self._judge, self._trace)
        self._jobs = SimulatedJobs(self._later)
        limits = IntakeLimits(max_grants=self._scenario.uploads_at_a_time)
        self._uploads = SimulatedUploads(
            self.spool, self._jobs, limits, self._post.to_device, self._tell, self._filled
        )
        self._publisher = SimulatedPublisher(self.session, self._topics, BLOB_EXPIRY_S)
        self._workshop = Workshop(
            self._scenario,
            self._judge,
            self.spool,
            self._blobs,
            self._jobs,
            self._tell,
            self._hold,
            self._work,
        )
        self._deeds = Deeds(self._deed_table(), self._filled)
        self._room = SimulatedRoom(self.disk, self.core, self._deeds, self._tell, self._note)
        self._guard(self._go_on)

    def crash(self, *, power: bool = False) -> None:
        """End the process, with its machine or without; it is started again some time later."""
        if not self.running:
            return
        self._trace("aggregator crashes", power)
        self._end()
        self.crashes += 1
        if power:
            self.disk.tear()
        self.session.die(power=power)
        self._clock.after(self._clock.chance.uniform(*DOWN_S), self.boot)

    def stall(self, seconds: float) -> None:
        """Let the loop come late: what comes meanwhile is read afterwards."""
        if self.running:
            self._stalled_until = self._clock.now + seconds
            self._clock.at(self._stalled_until, self._guarded(self._wake))

    def operate(self, event: on.Event) -> None:
        """Do what an operator asks."""
        if self.running and not self._stalls and not self._deeds.holding:
            self._guard(lambda: self._tell(event))

    def _due(self) -> tuple[float | None, ...]:
        return self.core.next_deadline(), self._uploads.next_deadline()

    def _work(self) -> bool:
        """Whether work succeeds."""
        return not self._clock.happens(self._troubles().work_fails)

    def _go_on(self) -> None:
        run = self.core.run
        keep = run.model.blobs if run and run.model else ()
        self._blobs &= set(keep)
        for summary in self.ledger.runs(1):
            self._write_history(do.WriteHistory(summary.run))
        self._tell(on.Restored())
        self.session.start()
        self._look_for_room()

    # -- time --------------------------------------------------------------------------------------

    def _fire(self) -> None:
        now = self._clock.now
        core_due, uploads_due = self._due()
        if core_due is not None and core_due <= now:
            self._tell(on.Tick())
        if uploads_due is not None and uploads_due <= now:
            self._uploads.lapsed(now)

    def _wake(self) -> None:
        self._fire()
        unread, self._unread = self._unread, []
        for happening in unread:
            self._on(happening)

    # -- the disk ------------------------------------------------------------------------------------

    def _filled(self, error: Exception) -> None:
        self._room.filled(error, self._clock.now)

    def _hold(self, effect: do.Effect, error: Exception) -> None:
        self._deeds.hold(effect, error)

    def _look_for_room(self) -> None:
        self._clock.after(ROOM_EVERY_S, self._guarded(self._look_for_room))
        self._room.look(self._clock.now)

    def _note(self, incident: Incident) -> None:
        with contextlib.suppress(NoRoomError):
            self.disk.sync(lambda: self.ledger.commit((incident,), None))

    # -- from the broker -----------------------------------------------------------------------------

    def _hear(self, happening: Happening) -> None:
        if self.running and self._stalls:
            self._unread.append(happening)
        elif self.running:
            self._guard(lambda: self._on(happening))

    def _on(self, happening: Happening) -> None:
        now = self._clock.now
        match happening:
            case Delivered(topic, payload, retained):
                self._read(topic, payload, retained=retained)
            case broker_events.Acknowledged(ticket, ok, reason):
                self._publisher.acknowledged(ticket, ok=ok, reason=reason)
            case broker_events.Connected():
                self._post.introduce()
                self._publisher.forget()
                self._tell(on.Connected())
                for ref in self.ledger.dropped_blobs():
                    self._publisher.clear(ref)
                self._uploads.connected(now)
            case broker_events.Disconnected():
                self._publisher.forget()
                self._uploads.disconnected()
                self._tell(on.Disconnected())

    def _read(self, topic: str, payload: Message | bytes, *, retained: bool) -> None:
        device, _, rest = topic.removeprefix(f"{self._topics.root}/devices/").partition("/")
        match payload:
            case Heartbeat():
                self._tell(on.DeviceHeartbeat(device, payload))
            case Presence():
                self._read_presence(device, payload, retained=retained)
            case Offer():
                self._tell(on.UpdateOffered(device, payload))
            case Report():
                self._tell(on.DeviceReport(device, payload))
            case bytes():
                _, transfer, index = rest.split("/")
                self._uploads.chunk(device, transfer, int(index), payload, self._clock.now)

    def _read_presence(self, device: str, presence: Presence, *, retained: bool) -> None:
        if presence.online and not retained:
            self._uploads.reconnected(device)
        event, now = on.DevicePresence(device, presence, retained), self._clock.now
        truth = "" if presence.online else self._truth(device)
        harmless = self._judge.death_heard(self.core, device, presence, now, truth)
        self._tell(event)
        if harmless:
            self._judge.survived(self.core, device, now)

    # -- events in, effects out ------------------------------------------------------------------------

    def _tell(self, event: on.Event) -> None:
        self._trace("aggregator", event)
        effects = self.core.handle(event, self._clock.now)
        self._judge.state(self.core)
        behind = any(isinstance(effect, do.Persist) for effect in effects[1:])
        require(not behind, "a Persist stands behind other effects")
        self._deeds.carry_out(effects)

    def _deed_table(self) -> dict[type[do.Effect], Callable[[Any], None]]:
        return {
            do.Reject: lambda _: None,
            do.Persist: self._persist,
            do.Prepare: self._workshop.prepare,
            do.PublishBlobs: self._publish_blobs,
            do.RetractBlobs: self._retract_blobs,
            do.Announce: self._post.announce,
            do.Send: lambda effect: self._post.to_device(effect.device, effect.message),
            do.Admit: self._admit,
            do.AnswerFromLedger: self._answer_from_ledger,
            do.DropUploads: lambda effect: self._uploads.drop(effect.run, effect.round, self._clock.now),
            do.Aggregate: self._workshop.aggregate,
            do.Evaluate: self._workshop.evaluate,
            do.WriteHistory: self._write_history,
        }

    def _persist(self, effect: do.Persist) -> None:
        def commit() -> None:
            self._judge.commits(effect.records)
            self.ledger.commit(effect.records, effect.snapshot)
            self._judge.committed(effect.records)

        self.disk.sync(commit)

    def _later(self, between_s: tuple[float, float], action: Callable[[], None]) -> None:
        """Have a child process do something that takes a while."""
        self._clock.after(self._clock.chance.uniform(*between_s), self._guarded(action))

    # -- to the broker ---------------------------------------------------------------------------------

    def _publish_blobs(self, effect: do.PublishBlobs) -> None:
        missing = set(effect.blobs)

        def put(ref: BlobRef) -> None:
            missing.remove(ref)
            if not missing:
                self._tell(on.BlobsPublished(effect.blobs))

        for ref in effect.blobs:
            require(ref in self._blobs, f"blob {ref.digest[:16]} is to be published, but was removed")
            self.disk.sync(partial(self.ledger.want_blob, ref))
            self._publisher.put_blob(ref, partial(put, ref))

    def _retract_blobs(self, effect: do.RetractBlobs) -> None:
        for ref in self.ledger.wanted_blobs():
            if ref not in effect.keep:
                self.disk.sync(partial(self.ledger.drop_blob, ref))
                self._publisher.clear(ref)
                self._blobs.discard(ref)

    def _admit(self, effect: do.Admit) -> None:
        self._uploads.admit(effect.device, effect.offer, _ABSENT_LAYOUT, None, self._clock.now)

    def _answer_from_ledger(self, effect: do.AnswerFromLedger) -> None:
        offer, device = effect.offer, effect.device
        transfer = offer.update.transfer
        outcome, reason = self.ledger.answer(offer.run, offer.round, device, transfer)
        self._post.to_device(
            device,
            Receipt(run=offer.run, round=offer.round, transfer=transfer, outcome=outcome, reason=reason),
        )

    def _write_history(self, _: do.WriteHistory) -> None:
        run = self.core.run
        self.spool.sweep([(run.run, number) for number in run.spooled] if run is not None else [])
