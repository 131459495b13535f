"""The aggregator's shell: one loop that turns messages into events, and effects into deeds.

Everything here runs in the loop's thread, except what `Jobs` and the Keras child do beside it.
"""

import contextlib
import logging
import time
from importlib.metadata import version

from aggregator.claim import Claim
from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.deeds import Deeds
from aggregator.exclusions import Exclusions
from aggregator.execution import Execution
from aggregator.hearing import BRANCHES, Hearers, Hearing
from aggregator.inspection import Inspection
from aggregator.intake import IntakeLimits
from aggregator.kept import Kept
from aggregator.letters import DeviceKeys, Letters
from aggregator.narrate import Patience, facts, narrate
from aggregator.opening import Opening
from aggregator.operators import Operators, state_of
from aggregator.outlets.outlets import Outlets
from aggregator.post import Post, farewell
from aggregator.publisher import Publisher
from aggregator.records import Incident
from aggregator.room import Room
from aggregator.shelf import Shelf
from aggregator.spool import Spool
from aggregator.uploads import Uploads
from aggregator.watch.past import Past
from aggregator.watch.watch import Watch
from aggregator.workshop import Workshop
from broker.advice import advised
from broker.control import Request, Verb
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
from broker.sealing import SealingKey
from broker.session import Session
from broker.signing import Signer
from host.errors import NoRoomError
from host.exits import ExitCode
from host.loop import Jobs, Loop
from host.notify import Notifier

WATCH_RATE_S = 0.5

log = logging.getLogger(__name__)


class Service:
    """Owns the session and the coordinator; `run` returns when told to stop, refused, or taken over."""

    def __init__(self, kept: Kept, notifier: Notifier, number: int) -> None:
        settings = self._settings = kept.settings
        self._notifier = notifier
        self._ledger = kept.ledger
        self._core = kept.coordinator(time.monotonic())
        self._number = number
        self._version = version("midge")
        self._topics = settings.broker.topics
        self._loop = Loop()
        self._jobs = Jobs(self._loop)
        self._exit = ExitCode.OK
        self._link = f"connecting to {settings.broker.url}"
        self._session = self._new_session()
        # What is sealed no more can still be opened; nothing else says that it is to be sealed.
        sealing = kept.sealing if settings.seals else None
        self._post = self._new_post(kept.signer, sealing)
        self._publisher = Publisher(self._session, self._topics, settings.blob_expiry_s)
        spool = Spool(settings.folder / "spool", settings.spool_limit_bytes)
        opening = Opening(self._topics, kept.sealing, required=False)
        self._workshop = Workshop(
            settings, self._ledger, spool, self._loop, self._jobs, self._tell, self._hold, opening
        )
        self._shelf = Shelf(self._ledger, self._workshop.blobs, self._publisher, self._tell)
        self._uploads = self._new_uploads(spool, kept)
        self._watch = Watch(
            self._core,
            Past(self._ledger, settings.folder / "runs"),
            self._topics,
            self._post.document,
            session=number,
            dropped=self._dropped,
            rate_s=WATCH_RATE_S,
            discreet=settings.seals,
        )
        self._outlets = Outlets(kept, self._session, self._post, self._watch, self._version)
        self._ledger.listener = self._outlets.note
        self._patience = Patience(self._core.fleet.lost_after_s)
        device_keys = DeviceKeys(self._ledger, settings.device_keys)
        self._exclusions = Exclusions(
            self._ledger, self._tell, self._clear_traces, self._post.ask_presence, device_keys.forget
        )
        self._operators = Operators(
            settings,
            self._ledger,
            self._handle,
            lambda: state_of(self._core.run),
            self._post.to_operator,
            self._exclusions,
        )
        self._inspection = Inspection(
            settings.folder, kept.ledger, spool, self._workshop.blobs, notifier.alive, self._note
        )
        key = kept.signer.public_key
        self._claim = Claim(
            number, key, self._post.beat, self._post.beat_s, self._yield_to, self._say_everything
        )
        hearers = Hearers(
            self._uploads,
            self._exclusions,
            self._heard_request,
            self._claim.heard_federation,
            self._claim.heard_beat,
        )
        letters = Letters(sealing, device_keys)
        self._hearing = Hearing(self._topics, self._tell, hearers, letters)
        execution = Execution(
            self._core,
            self._ledger,
            self._post,
            self._uploads,
            self._workshop,
            self._shelf,
            self._outlets.note,
        )
        self._deeds = Deeds(execution.table(), self._filled)
        self._room = Room(settings.folder, self._core, self._deeds, self._tell, self._note)

    # -- life ------------------------------------------------------------------------------------

    def run(self) -> ExitCode:
        """Serve until stopped."""
        model = self._core.run.model if self._core.run else None
        self._workshop.blobs.sweep(model.blobs if model else ())
        for summary in self._ledger.runs(1):
            self._deeds.carry_out([do.WriteHistory(summary.run)])
        self._loop.post(lambda: self._tell(on.Restored()))
        self._loop.post(self._exclusions.restored)
        self._outlets.start()
        self._session.start()
        for summary in self._ledger.runs(1):
            self._inspection.look_at_old(summary.run, self._core.run, self._jobs)
        try:
            self._loop.run(self._next_deadline, self._on_deadline)
        finally:
            self._notifier.stopping()
            taken = self._exit is ExitCode.ANOTHER_AGGREGATOR
            self._session.stop(None if taken else farewell(self._topics, self._number, self._version))
            self._workshop.close()
            self._jobs.close()
            self._outlets.close()
        return self._exit

    def inspect(self) -> None:
        """Look at what counts of what an earlier process left, before anything is said of it."""
        if self._core.run is not None:
            for event in self._inspection.look(self._core.run):
                self._tell(event)

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

    def _new_post(self, signer: Signer, sealing: SealingKey | None) -> Post:
        return Post(
            self._session,
            self._topics,
            self._number,
            self._version,
            self._settings.heartbeat_s,
            signer,
            None if sealing is None else sealing.public_key,
        )

    def _new_uploads(self, spool: Spool, kept: Kept) -> Uploads:
        settings = self._settings
        limits = IntakeLimits(
            max_grants=settings.uploads_at_a_time,
            window=settings.upload_window,
            lease_s=settings.upload_lease_s,
        )
        opening = Opening(self._topics, kept.sealing, required=settings.seals)
        post = self._post.to_device
        return Uploads(spool, self._jobs, limits, post, self._tell, self._filled, opening)

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
            # What was due before may have taken its time: budgets are of the time in which things are said.
            self._watch.look(time.monotonic())
            self._outlets.look(now)
            self._claim.renew(now)
            self._room.renew(now)
            if self._patience.tell(self._watch.waits, now) and self._core.run is not None:
                run = self._core.run.run
                log.warning("run %s %s", run, self._watch.waits, extra={"event": "waits", "run": run})
            self._notifier.alive()
            doing = f"run {state_of(self._core.run)}" if self._core.run else "idle"
            self._notifier.status(f"{self._link}; {doing}")

    # -- from the broker ---------------------------------------------------------------------------

    def _enqueue(self, event: SessionEvent) -> None:
        """Called in the session's thread; what the fleet can send without end may be dropped."""
        self._loop.post(lambda: self._on_session(event), droppable=isinstance(event, Received))

    def _on_session(self, event: SessionEvent) -> None:
        now = time.monotonic()
        match event:
            case Received():
                self._outlets.heard(event)
                self._hearing.heard(event)
            case Acknowledged(ticket, ok, reason):
                self._publisher.acknowledged(ticket, ok=ok, reason=reason)
                self._post.acknowledged(ticket, ok=ok, reason=reason)
            case Connected():
                log.info("connected to %s", self._settings.broker.url, extra={"event": "connected"})
                self._link = "connected"
                self._say_everything()
                self._uploads.connected(now)
            case Disconnected(reason):
                event_of = {"event": "disconnected"}
                log.warning("disconnected from the broker: %s; connecting again", reason, extra=event_of)
                self._link = f"disconnected: {reason}"
                self._publisher.forget()
                self._post.disconnected()
                self._uploads.disconnected()
                self._tell(on.Disconnected())
            case Unreachable(reason):
                url, why = self._settings.broker.url, advised(reason)
                log.warning("%s cannot be reached: %s; still trying", url, why)
                self._link = f"{url} cannot be reached: {why}"
            case Refused(reason, in_a_row):
                self._refused(reason, in_a_row)
            case TakenOver(reason):
                self._yield_to(reason)

    def _say_everything(self) -> None:
        """The broker may have lost or revived anything, and somebody else may have spoken in our place."""
        self._post.introduce()
        self._publisher.forget()
        self._tell(on.Connected())
        self._shelf.clear_dropped()
        self._watch.forget()
        self._outlets.connected()

    def _yield_to(self, why: str) -> None:
        """Two aggregators would contradict each other: the younger session serves, we go without a word."""
        log.error("another aggregator serves this federation now: this one stops; %s", why)
        self._exit = ExitCode.ANOTHER_AGGREGATOR
        self._loop.stop()

    def _refused(self, reason: str, in_a_row: int) -> None:
        limit = self._settings.broker.refusals_before_exit
        log.error("the broker refused our credentials (%d of %d): %s", in_a_row, limit, reason)
        self._link = f"refused by the broker: {reason}"
        if in_a_row >= limit:
            self._exit = ExitCode.REFUSED_CREDENTIALS
            self._loop.stop()

    def _clear_traces(self, device: str) -> None:
        """Nothing that is retained tells of an excluded device any more, and no upload of it goes on."""
        self._uploads.forget(device, time.monotonic())
        self._post.clear_presence(device)

    def _dropped(self) -> int:
        return self._hearing.unreadable + self._uploads.dropped + self._loop.dropped

    def _heard_request(self, user: str, request: Request) -> None:
        if self._deeds.holding and request.verb is Verb.RESUME:
            # Whoever insists may know better than our reserve.
            self._deeds.retry()
        elif self._deeds.holding:
            self._room.look(time.monotonic())
        self._operators.request(user, request, refuse=self._room.lacking if self._deeds.holding else "")

    # -- mishaps ------------------------------------------------------------------------------------

    def _filled(self, error: Exception) -> None:
        self._room.filled(error, time.monotonic())

    def _note(self, incident: Incident) -> None:
        """Tell people of a mishap; where even that cannot be written, in the log alone."""
        log.log(*narrate(incident), extra=facts(incident))
        with contextlib.suppress(NoRoomError):
            self._ledger.commit((incident,), None)

    def _hold(self, effect: do.Effect, error: Exception) -> None:
        self._deeds.hold(effect, error)

    # -- events in, effects out --------------------------------------------------------------------

    def _tell(self, event: on.Event) -> None:
        for effect in self._handle(event):
            if isinstance(effect, do.Reject):
                log.debug("%s: %s", type(event).__name__, effect.reason)

    def _handle(self, event: on.Event) -> list[do.Effect]:
        effects = self._core.handle(event, time.monotonic())
        self._deeds.carry_out(effects)
        if isinstance(event, on.DevicePresence) and event.retained:
            self._watch.was_there(event.device, online=event.presence.online)
        elif isinstance(event, on.Prepared):
            self._operators.prepared(
                event.run, ok=True, text=f"run {event.run}: {event.parameters:,} parameters"
            )
        elif isinstance(event, on.PrepareFailed):
            self._operators.prepared(event.run, ok=False, text=event.reason)
        elif isinstance(event, on.StopRun):
            self._workshop.give_up()
        return effects
