"""The aggregator's shell: one loop that turns messages into events, and effects into deeds.

Everything here runs in the loop's thread, except what `Jobs` and the Keras child do beside it.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from pydantic import ValidationError

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.stragglers import largest_update
from aggregator.deeds import Deeds
from aggregator.hearing import BRANCHES, Hearers, Hearing
from aggregator.inspection import Inspection
from aggregator.intake import IntakeLimits
from aggregator.ledger import Ledger
from aggregator.narrate import Patience, narrate
from aggregator.operators import Operators
from aggregator.post import Post, farewell
from aggregator.publisher import Publisher
from aggregator.records import Incident, IncidentKind
from aggregator.room import has_room
from aggregator.settings import AggregatorSettings
from aggregator.spool import Spool
from aggregator.uploads import Uploads
from aggregator.watch import Watch
from aggregator.workshop import Workshop
from broker.advice import advised
from broker.events import (
    Acknowledged,
    Connected,
    Disconnected,
    Received,
    Refused,
    SessionEvent,
    TakenOver,
    Unreachable,
)
from broker.messages import BlobRef, Federation, Receipt, Request
from broker.monitor import AggregatorDocument
from broker.session import Session
from broker.signing import Signer
from host.errors import ConfigError, NoRoomError, StorageError, WireError
from host.exits import ExitCode
from host.loop import Jobs, Loop
from host.notify import Notifier

WATCH_RATE_S = 0.5
ROOM_EVERY_S = 5.0

log = logging.getLogger(__name__)


class Service:
    """Owns the session and the coordinator; `run` returns when told to stop, refused, or taken over."""

    def __init__(self, settings: AggregatorSettings, notifier: Notifier, ledger: Ledger, number: int) -> None:
        self._settings = settings
        self._notifier = notifier
        signer = Signer(settings.signing_key)
        log.info("announcements are signed; devices pin aggregator_key = %s", signer.public_key)
        self._signer = signer
        self._ledger = ledger
        self._number = number
        self._version = version("midge")
        self._topics = settings.broker.topics
        self._loop = Loop()
        self._jobs = Jobs(self._loop)
        self._exit = ExitCode.OK
        self._session = self._new_session()
        self._post = Post(
            self._session, self._topics, self._number, self._version, settings.heartbeat_s, signer
        )
        self._publisher = Publisher(self._session, self._topics, settings.blob_expiry_s)
        self._core = self._restore()
        spool = Spool(settings.folder / "spool", settings.spool_limit_bytes)
        self._workshop = Workshop(
            settings, self._ledger, spool, self._loop, self._jobs, self._tell, self._hold
        )
        self._uploads = Uploads(
            spool, self._jobs, self._limits(), self._post.to_device, self._tell, self._filled
        )
        self._watch = Watch(
            self._core, self._ledger, self._topics, self._post.document, self._dropped, WATCH_RATE_S
        )
        self._patience = Patience(self._core.fleet.lost_after_s)
        self._operators = Operators(settings, self._ledger, self._handle, self._state, self._post.to_operator)
        self._inspection = Inspection(
            settings.folder, ledger, spool, self._workshop.blobs, notifier.alive, self._note
        )
        hearers = Hearers(self._uploads, self._heard_request, self._heard_federation, self._heard_beat)
        self._hearing = Hearing(self._topics, self._tell, hearers)
        self._deeds = Deeds(self._deed_table(), self._filled)
        self._beat_at = 0.0
        self._room_at = 0.0
        self._stalled = ""

    # -- life ------------------------------------------------------------------------------------

    def run(self) -> ExitCode:
        """Serve until stopped."""
        model = self._core.run.model if self._core.run else None
        self._workshop.blobs.sweep(model.blobs if model else ())
        for summary in self._ledger.runs(1):
            self._deeds.carry_out([do.WriteHistory(summary.run)])
        self._loop.post(lambda: self._tell(on.Restored()))
        self._session.start()
        self._inspect_old()
        try:
            self._loop.run(self._next_deadline, self._on_deadline)
        finally:
            self._notifier.stopping()
            taken = self._exit is ExitCode.ANOTHER_AGGREGATOR
            self._session.stop(None if taken else farewell(self._topics, self._number, self._version))
            self._workshop.close()
            self._jobs.close()
        return self._exit

    def inspect(self) -> None:
        """Look at what counts of what an earlier process left, before anything is said of it."""
        if self._core.run is not None:
            for event in self._inspection.look(self._core.run):
                self._tell(event)

    def _inspect_old(self) -> None:
        """Look at what is only kept, one file after the other, between the jobs that cannot wait."""
        run = self._core.run
        current = run.model.theta if run is not None and run.model is not None else None
        for summary in self._ledger.runs(1):
            for number, theta in self._inspection.old_thetas(summary.run):
                if theta != current:
                    self._jobs.submit(
                        partial(self._inspection.fault_of_old, summary.run, number, theta),
                        partial(self._inspected_old, summary.run, number),
                        partial(
                            log.warning, "round %d of %s could not be inspected: %s", number, summary.run
                        ),
                    )

    def _inspected_old(self, run: str, number: int, fault: str) -> None:
        if fault:
            self._inspection.report_old(run, number, fault)

    def stop(self) -> None:
        """End `run` soon; for signal handlers."""
        self._loop.stop()

    def _new_session(self) -> Session:
        return Session(
            self._settings.broker,
            f"midge-{self._topics.federation}-aggregator",
            self._enqueue,
            will=lambda _connection: farewell(self._topics, self._number, self._version),
            subscriptions=[(self._topics.filter(branch), branch.qos) for branch in BRANCHES],
            yields=True,
        )

    def _restore(self) -> Coordinator:
        snapshot, now = self._ledger.snapshot(), time.monotonic()
        if snapshot is None:
            return Coordinator(self._settings.heartbeat_s, now)
        try:
            core = Coordinator.restore(snapshot, self._settings.heartbeat_s, now)
        except ValidationError:
            raise ConfigError(
                f"the ledger in {self._settings.folder} holds a run that another version of midge saved: "
                "install that version and stop the run there, or choose another folder"
            ) from None
        if core.run is not None:
            log.info("run %s goes on in phase %s, round %d", core.run.run, core.phase, core.run.last_round)
        return core

    def _limits(self) -> IntakeLimits:
        settings = self._settings
        return IntakeLimits(
            max_grants=settings.uploads_at_a_time,
            window=settings.upload_window,
            lease_s=settings.upload_lease_s,
        )

    # -- time ------------------------------------------------------------------------------------

    def _next_deadline(self) -> float | None:
        due = (self._core.next_deadline(), self._uploads.next_deadline(), self._watch.next_deadline())
        return min(time for time in due if time is not None)

    def _on_deadline(self) -> None:
        now = time.monotonic()
        core_due, uploads_due = self._core.next_deadline(), self._uploads.next_deadline()
        if core_due is not None and core_due <= now:
            self._tell(on.Tick())
        if uploads_due is not None and uploads_due <= now:
            self._uploads.lapsed(now)
        if self._watch.next_deadline() <= now:
            self._publisher.pump()
            self._post.pump()
            self._watch.look(now)
            if now >= self._beat_at:
                self._beat(now)
            if now >= self._room_at:
                self._look_for_room()
            if self._patience.tell(self._watch.waits, now) and self._core.run is not None:
                log.warning("run %s %s", self._core.run.run, self._watch.waits)
            self._notifier.alive()
            self._notifier.status(self._state())

    # -- from the broker ---------------------------------------------------------------------------

    def _enqueue(self, event: SessionEvent) -> None:
        """Called in the session's thread; what the fleet can send without end may be dropped."""
        self._loop.post(lambda: self._on_session(event), droppable=isinstance(event, Received))

    def _on_session(self, event: SessionEvent) -> None:
        now = time.monotonic()
        match event:
            case Received():
                self._hearing.heard(event)
            case Acknowledged(ticket, ok, reason):
                self._publisher.acknowledged(ticket, ok=ok, reason=reason)
                self._post.acknowledged(ticket, ok=ok, reason=reason)
            case Connected():
                log.info("connected to %s", self._settings.broker.url)
                self._say_everything()
                self._uploads.connected(now)
            case Disconnected(reason):
                log.warning("disconnected from the broker: %s; connecting again", reason)
                self._publisher.forget()
                self._post.disconnected()
                self._uploads.disconnected()
                self._tell(on.Disconnected())
            case Unreachable(reason):
                url = self._settings.broker.url
                log.warning("%s cannot be reached: %s; still trying", url, advised(reason))
            case Refused(reason, in_a_row):
                self._refused(reason, in_a_row)
            case TakenOver(reason):
                self._yield_to(reason)

    def _say_everything(self) -> None:
        """The broker may have lost or revived anything, and somebody else may have spoken in our place."""
        self._post.introduce()
        self._publisher.forget()
        self._tell(on.Connected())
        self._clear_dropped_blobs()
        self._watch.forget()

    def _beat(self, now: float) -> None:
        self._post.beat()
        self._beat_at = now + self._post.beat_s

    def _yield_to(self, why: str) -> None:
        """Two aggregators would contradict each other: the younger session serves, we go without a word."""
        log.error("another aggregator serves this federation now: this one stops; %s", why)
        self._exit = ExitCode.ANOTHER_AGGREGATOR
        self._loop.stop()

    def _refused(self, reason: str, in_a_row: int) -> None:
        limit = self._settings.broker.refusals_before_exit
        log.error("the broker refused our credentials (%d of %d): %s", in_a_row, limit, reason)
        if in_a_row >= limit:
            self._exit = ExitCode.REFUSED_CREDENTIALS
            self._loop.stop()

    def _dropped(self) -> int:
        return self._hearing.unreadable + self._uploads.dropped + self._loop.dropped

    def _heard_federation(self, other: Federation, retained: bool) -> None:  # noqa: FBT001 - as heard
        """Two that began in the same second are told apart by their keys."""
        theirs, ours = (other.session, other.aggregator_key), (self._number, self._signer.public_key)
        if theirs > ours:
            self._yield_to(f"its session is {other.session}, ours {self._number}")
        elif theirs < ours and not retained:
            log.warning("another aggregator spoke, with session %d: saying everything again", other.session)
            self._say_everything()

    def _heard_beat(self, document: AggregatorDocument, retained: bool) -> None:  # noqa: FBT001 - as heard
        """Whoever says that nobody lives, be it a late will of our own, is corrected."""
        if not document.online and not retained:
            self._beat(time.monotonic())

    def _heard_request(self, user: str, request: Request) -> None:
        if self._deeds.holding:
            self._look_for_room()
        self._operators.request(user, request, refuse=self._stalled if self._deeds.holding else "")

    # -- room on the disk --------------------------------------------------------------------------

    def _filled(self, error: Exception) -> None:
        """The disk takes no more: the run pauses, and goes on by itself when there is room."""
        self._room_at = time.monotonic() + ROOM_EVERY_S
        if not self._stalled:
            log.error("%s; waiting until there is room", error)
        self._stalled = f"{error}; goes on by itself when there is room"
        self._tell(on.DiskFilled(self._stalled))

    def _note(self, incident: Incident) -> None:
        """Tell people of a mishap; where even that cannot be written, in the log alone."""
        log.log(*narrate(incident))
        with contextlib.suppress(NoRoomError):
            self._ledger.commit((incident,), None)
        self._watch.mishap()

    def _hold(self, effect: do.Effect, error: Exception) -> None:
        self._deeds.hold(effect, error)

    def _look_for_room(self) -> None:
        self._room_at = time.monotonic() + ROOM_EVERY_S
        run = self._core.run
        if not self._deeds.holding and (run is None or not run.waits_for_disk):
            self._stalled = ""
        elif has_room(self._settings.folder, largest_update(run.model) if run and run.model else 0):
            self._deeds.retry()
            if not self._deeds.holding:
                log.info("there is room on the disk again")
                self._note(
                    Incident(IncidentKind.NO_ROOM, run.run if run else None, None, "disk", self._stalled)
                )
                self._stalled = ""
                self._tell(on.DiskHasRoom())

    # -- events in, effects out --------------------------------------------------------------------

    def _tell(self, event: on.Event) -> None:
        for effect in self._handle(event):
            if isinstance(effect, do.Reject):
                log.debug("%s: %s", type(event).__name__, effect.reason)

    def _handle(self, event: on.Event) -> list[do.Effect]:
        effects = self._core.handle(event, time.monotonic())
        self._deeds.carry_out(effects)
        if isinstance(event, on.StartRun):
            self._watch.run_began()
        elif isinstance(event, on.Prepared):
            self._operators.prepared(
                event.run, ok=True, text=f"run {event.run}: {event.parameters:,} parameters"
            )
        elif isinstance(event, on.PrepareFailed):
            log.error("run %s failed: %s", event.run, event.reason)
            self._operators.prepared(event.run, ok=False, text=event.reason)
        elif isinstance(event, on.StopRun):
            self._workshop.give_up()
        return effects

    def _state(self) -> str:
        """The run and its phase, for the record of what an operator changed."""
        run = self._core.run
        return (
            f"{run.run} {'paused' if run.paused else run.phase} round {run.last_round}" if run else "- idle"
        )

    def _persist(self, effect: do.Persist) -> None:
        self._ledger.commit(effect.records, effect.snapshot)
        for record in effect.records:
            log.log(*narrate(record))

    def _publish_blobs(self, effect: do.PublishBlobs) -> None:
        """Say `BlobsPublished` when the broker took all of them."""
        try:
            paths = [self._workshop.blobs.path(ref) for ref in effect.blobs]
        except StorageError as error:
            self._tell(on.ModelDamaged(str(error), None))
            return
        missing = set(effect.blobs)

        def put(ref: BlobRef) -> None:
            missing.remove(ref)
            if not missing:
                self._tell(on.BlobsPublished(effect.blobs))

        for ref, path in zip(effect.blobs, paths, strict=True):
            self._ledger.want_blob(ref)
            self._publisher.put(path, ref, partial(put, ref))

    def _retract_blobs(self, effect: do.RetractBlobs) -> None:
        for ref in self._ledger.wanted_blobs():
            if ref not in effect.keep:
                self._ledger.drop_blob(ref)
                self._publisher.clear(ref)
                self._workshop.blobs.remove(ref)

    def _clear_dropped_blobs(self) -> None:
        """A broker that was killed comes back with what it had saved: blobs of earlier rounds among it."""
        for ref in self._ledger.dropped_blobs():
            self._publisher.clear(ref)

    def _admit(self, effect: do.Admit) -> None:
        run = self._core.run
        assert run is not None
        try:
            layout = self._workshop.layout(run.run)
        except (OSError, WireError) as error:
            log.error("an update of %s must wait, the run's program cannot be read: %s", effect.device, error)  # noqa: TRY400 - no bug of ours
            return
        self._uploads.admit(effect.device, effect.offer, layout, run.settings.max_norm, time.monotonic())

    def _answer_from_ledger(self, effect: do.AnswerFromLedger) -> None:
        offer = effect.offer
        transfer = offer.update.transfer
        outcome, reason = self._ledger.answer(offer.run, offer.round, effect.device, transfer)
        receipt = Receipt(run=offer.run, round=offer.round, transfer=transfer, outcome=outcome, reason=reason)
        self._post.to_device(effect.device, receipt)

    def _write_history(self, effect: do.WriteHistory) -> None:
        run = self._core.run
        spooled = set() if run is None else {(run.run, number) for number in run.spooled}
        self._workshop.write_history(effect.run, spooled)
        self._watch.round_closed(effect.run)

    def _deed_table(self) -> dict[type[do.Effect], Callable[[Any], None]]:
        return {
            do.Reject: lambda _: None,
            do.Persist: self._persist,
            do.Prepare: self._workshop.prepare,
            do.PublishBlobs: self._publish_blobs,
            do.RetractBlobs: self._retract_blobs,
            do.Announce: lambda effect: self._post.announce(effect.assignment, effect.expiry_s),
            do.Send: lambda effect: self._post.to_device(effect.device, effect.message),
            do.Admit: self._admit,
            do.AnswerFromLedger: self._answer_from_ledger,
            do.DropUploads: lambda effect: self._uploads.drop(effect.run, effect.round, time.monotonic()),
            do.Aggregate: self._workshop.aggregate,
            do.Evaluate: self._workshop.evaluate,
            do.WriteHistory: self._write_history,
        }
