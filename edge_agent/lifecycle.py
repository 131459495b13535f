"""The agent's pure core: what a device does about each event, without socket, file, clock or thread.

`handle(event, now) -> list[Effect]`; the shell carries the effects out in order, and what becomes of
them comes back as events. An event that makes no sense gives a `Reject` and changes nothing.
"""

from dataclasses import dataclass
from functools import singledispatchmethod
from random import Random

from broker import messages, topics
from broker.messages import AgentState, Assignment, AssignmentPhase, DeclineReason
from edge_agent import effects, events
from edge_agent.backoff import LONGEST_S, Backoff
from edge_agent.batch import Batch
from edge_agent.duty import Duty, key_of
from edge_agent.presence import OwnPresence, Verdict
from edge_agent.pulse import Pulse
from edge_agent.seeds import derive_seed
from edge_agent.snapshot import RoundKey, Snapshot
from edge_agent.transitions import (
    DISPLACED,
    EVALUATING,
    FETCHING,
    IDLE,
    TRAINING,
    TRANSITIONS,
    UPLOADING,
    WORKING,
)

MAX_DETAIL = 300


class _IllegalError(Exception):
    """The event makes no sense now; raised before anything is changed."""


@dataclass
class Work:
    """The assignment in hand, until it is an update, a report or dropped."""

    assignment: Assignment
    missing: set[str]
    job: int = 0
    progress: float = 0.0
    examples_per_s: float = 0.0


class Lifecycle:
    """One device's part in the rounds of a federation; `birth` is what a birth says of this device."""

    def __init__(
        self, device: str, birth: messages.Presence, random: Random, snapshot: Snapshot | None = None
    ) -> None:
        self._device = device
        self._batch = Batch(snapshot or Snapshot())
        self.state = UPLOADING if self._batch.kept.pending else IDLE
        self._presence = OwnPresence(birth)
        self._runtimes = birth.runtimes
        self._duty = Duty(device)
        self._work: Work | None = None
        self._jobs = 0
        self._retried: RoundKey | None = None
        self._report: messages.Report | None = None
        self._pulse = Pulse()
        self._offers, self._fetches = Backoff(random), Backoff(random)
        self._offer_at: float | None = None
        self._fetch_at: float | None = None

    def handle(self, event: events.Event, now: float) -> list[effects.Effect]:
        """Take note of one event at `now` (monotonic seconds); what to do about it, in order."""
        before = self.state
        try:
            self._on(event, now)
        except _IllegalError as error:
            return [effects.Reject(str(error))]
        if self._pulse.is_due(now) or (self._pulse.alive and self.state is not before):
            self._beat(now)
        return self._batch.take()

    def next_deadline(self) -> float | None:
        """When to send `TimerFired`, if nothing else happens before."""
        return min(
            (at for at in (self._pulse.next_at, self._offer_at, self._fetch_at) if at is not None),
            default=None,
        )

    def snapshot(self) -> Snapshot:
        """What a restarted agent is to be given."""
        return self._batch.kept

    def validate(self) -> None:
        """Raise AssertionError where the parts of the state contradict each other."""
        connected = self._presence.connection is not None
        assert (self._work is not None) == (self.state in WORKING)
        assert (self._batch.kept.pending is not None) == (self.state is UPLOADING) or self.state is DISPLACED
        assert bool(self._work and self._work.missing) == (self.state is FETCHING)
        assert self._pulse.alive == (connected and self.state is not DISPLACED)
        assert (self._offer_at is not None) == (connected and self.state is UPLOADING)
        assert self._fetch_at is None or self.state is FETCHING
        assert self._batch.empty

    @singledispatchmethod
    def _on(self, event: events.Event, now: float) -> None:
        raise NotImplementedError(f"no rule for {event!r} at {now}")

    # What the broker says about us.

    @_on.register
    def _connected(self, event: events.Connected, now: float) -> None:
        self._presence.connected(event.connection)
        self._pulse.start(now)
        if self.state is DISPLACED:
            self._enter(UPLOADING if self._batch.kept.pending else IDLE)
        self._batch.publish(topics.PRESENCE, self._presence.birth())
        self._offer_now(now)
        self._repeat_report()
        self._consider()

    @_on.register
    def _disconnected(self, _event: events.Disconnected, _now: float) -> None:
        if self._presence.connection is None:
            raise _IllegalError("not connected")
        self._presence.disconnected()
        self._pulse.stop()
        self._offer_at = None

    @_on.register
    def _presence_seen(self, event: events.PresenceSeen, _now: float) -> None:
        if self._presence.connection is None or self.state is DISPLACED:
            raise _IllegalError("our presence is not ours to keep now")
        verdict = self._presence.seen(event.presence, retained=event.retained)
        if verdict is Verdict.OVERWRITTEN:
            self._batch.publish(topics.PRESENCE, self._presence.birth())
        elif verdict is Verdict.DISPLACED:
            self._displace(event.presence.connection)

    def _displace(self, other: str) -> None:
        self._drop_work()
        self._enter(DISPLACED)
        self._pulse.stop()
        self._offer_at = None
        self._batch.log(
            f"another machine (connection {other}) uses the id {self._device}: this one keeps quiet; "
            "give one of them another id",
            warning=True,
        )

    # What the aggregator says.

    @_on.register
    def _federation(self, event: messages.Federation, now: float) -> None:
        if event.session < self._batch.kept.session:
            raise _IllegalError(f"session {event.session} is stale, {self._batch.kept.session} was seen")
        self._pulse.keep_rhythm(event.heartbeat_s, now)
        if event.session > self._batch.kept.session:
            self._batch.keep(session=event.session)
            self._duty.session_began()
            self._offer_now(now)
            self._repeat_report()

    @_on.register
    def _announcement(self, event: messages.Announcement, now: float) -> None:
        if not self._duty.is_news(event, self._batch.kept.session):
            raise _IllegalError(f"announcement {event.session}/{event.sequence} is stale or known")
        if event.session > self._batch.kept.session:
            self._batch.keep(session=event.session)
        self._duty.heard(event)
        if self._report and self._duty.key != (self._report.run, self._report.round):
            self._report = None
        if self._work and not self._duty.still_wants(self._work.assignment, self.state):
            self._batch.log(f"round {self._work.assignment.round} no longer wants our work: dropped")
            self._end_work()
        self._offer_now(now)
        self._consider()

    @_on.register
    def _invite(self, event: messages.Invite, _now: float) -> None:
        if self._duty.key != (event.run, event.round):
            raise _IllegalError(f"invited to round {event.round}, which is not announced")
        self._duty.invited = self._duty.key
        self._consider()

    @_on.register
    def _grant(self, event: messages.Grant, now: float) -> None:
        pending = self._answered(event)
        if self._offer_at is None:
            raise _IllegalError("a grant while we are not uploading")
        if any(index >= pending.update.chunks for index in event.indexes):
            raise _IllegalError(f"the update has {pending.update.chunks} chunks only")
        self._batch.add(effects.SendChunks(pending.update, event.indexes))
        # An offer in the middle of a granted upload would only be answered by the same chunks again.
        self._offer_at = now + LONGEST_S

    @_on.register
    def _receipt(self, event: messages.Receipt, _now: float) -> None:
        self._answered(event)
        why = f" ({event.reason})" if event.reason else ""
        self._batch.log(f"update of round {event.round}: {event.outcome}{why}")
        self._let_go(event.transfer)

    def _answered(self, event: messages.Grant | messages.Receipt) -> messages.Offer:
        """Return the pending update that this answers."""
        pending = self._batch.kept.pending
        if pending is None or (pending.run, pending.round, pending.update.transfer) != (
            event.run,
            event.round,
            event.transfer,
        ):
            raise _IllegalError(f"answers {event.transfer}, which is not pending")
        return pending

    # What became of our own doing.

    @_on.register
    def _fetched(self, event: events.Fetched, _now: float) -> None:
        work = self._fetching(event.digest)
        work.missing.remove(event.digest)
        if not work.missing:
            self._fetch_at = None
            self._enter(TRAINING if work.assignment.phase is AssignmentPhase.TRAINING else EVALUATING)
            self._start_job(work)

    @_on.register
    def _fetch_failed(self, event: events.FetchFailed, now: float) -> None:
        work = self._fetching(event.digest)
        if event.fault is events.FetchFault.STORAGE:
            self._decline(work.assignment, DeclineReason.DISK, event.detail)
        else:
            self._batch.log(f"blob {event.digest[:16]}: {event.detail}; it is fetched again", warning=True)
            self._fetch_at = now + self._fetches.delay_s()

    def _fetching(self, digest: str) -> Work:
        if self._work is None or digest not in self._work.missing:
            raise _IllegalError(f"blob {digest[:16]} is not being fetched")
        return self._work

    @_on.register
    def _training_progressed(self, event: events.TrainingProgressed, _now: float) -> None:
        work = self._job(event.job)
        work.progress, work.examples_per_s = event.progress, event.examples_per_s

    @_on.register
    def _trained(self, event: events.Trained, now: float) -> None:
        assignment = self._job(event.job, TRAINING).assignment
        offer = messages.Offer(
            run=assignment.run,
            round=assignment.round,
            update=event.update,
            examples=event.examples,
            metrics=event.metrics,
            validation=event.validation,
            seconds=event.seconds,
        )
        self._batch.keep(pending=offer, trained=key_of(assignment))
        self._work = None
        self._enter(UPLOADING)
        self._batch.log(
            f"round {assignment.round}: trained on {event.examples} examples in {event.seconds:.1f} s"
        )
        self._offer_now(now)

    @_on.register
    def _evaluated(self, event: events.Evaluated, _now: float) -> None:
        assignment = self._job(event.job, EVALUATING).assignment
        self._batch.keep(evaluated=key_of(assignment))
        self._say_report(messages.Report(run=assignment.run, round=assignment.round, metrics=event.metrics))
        self._work = None
        self._enter(IDLE)
        self._consider()

    @_on.register
    def _training_failed(self, event: events.TrainingFailed, _now: float) -> None:
        self._decline(self._job(event.job).assignment, event.reason, event.detail)

    @_on.register
    def _trainer_died(self, event: events.TrainerDied, _now: float) -> None:
        work = self._job(event.job)
        key = key_of(work.assignment)
        if self._retried == key:
            self._decline(work.assignment, DeclineReason.TRAINING_FAILED, event.detail)
        else:
            self._retried = key
            self._batch.log(f"the trainer died ({event.detail}): once more", warning=True)
            self._start_job(work)

    def _job(self, number: int, state: AgentState | None = None) -> Work:
        work = self._work
        if work is None or self.state is FETCHING or number != work.job or state not in {None, self.state}:
            raise _IllegalError(f"job {number} is not being done")
        return work

    @_on.register
    def _update_lost(self, event: events.UpdateLost, _now: float) -> None:
        pending = self._batch.kept.pending
        if pending is None or pending.update.transfer != event.transfer:
            raise _IllegalError(f"update {event.transfer} is not pending")
        self._batch.log(f"update of round {pending.round} is lost: {event.detail}", warning=True)
        self._say_declined(pending, DeclineReason.DISK, event.detail)
        self._let_go(event.transfer)

    @_on.register
    def _vitals_measured(self, event: events.VitalsMeasured, _now: float) -> None:
        self._pulse.vitals = event

    @_on.register
    def _timer_fired(self, _event: events.TimerFired, now: float) -> None:
        if self._offer_at is not None and now >= self._offer_at:
            self._offer(now)
        if self._fetch_at is not None and now >= self._fetch_at and self._work:
            self._fetch_at = None
            self._fetch(self._work.assignment)

    # The steps that these have in common.

    def _consider(self) -> None:
        """Begin what the announced round asks of us, when we are free."""
        asked = self._duty.asked(self._batch.kept)
        if self.state is not IDLE or asked is None:
            return
        if asked.runtime not in self._runtimes:
            self._decline(asked, DeclineReason.RUNTIME, f"its runtime {asked.runtime} is not installed")
            return
        self._batch.log(f"round {asked.round} of run {asked.run}: {asked.phase}")
        self._work = Work(asked, {asked.program.digest, asked.theta.digest})
        self._fetches.reset()
        self._enter(FETCHING)
        self._fetch(asked)

    def _fetch(self, assignment: Assignment) -> None:
        self._batch.add(effects.Fetch((assignment.program, assignment.theta)))

    def _start_job(self, work: Work) -> None:
        self._jobs += 1
        work.job, work.progress = self._jobs, 0.0
        if self.state is EVALUATING:
            self._batch.add(effects.Evaluate(work.job, work.assignment))
            return
        given = work.assignment.settings
        seed = derive_seed(given.seed, work.assignment.round, self._device)
        self._batch.add(effects.Train(work.job, work.assignment, given.model_copy(update={"seed": seed})))

    def _decline(self, assignment: Assignment, reason: DeclineReason, detail: str) -> None:
        self._duty.declined = key_of(assignment)
        self._batch.log(f"round {assignment.round} declined, {reason}: {detail}", warning=True)
        self._say_declined(assignment, reason, detail)
        if self._work:
            self._end_work()

    def _say_declined(self, what: Assignment | messages.Offer, reason: DeclineReason, detail: str) -> None:
        detail = detail[:MAX_DETAIL]
        self._say_report(messages.Report(run=what.run, round=what.round, declined=reason, detail=detail))

    def _end_work(self) -> None:
        self._drop_work()
        self._enter(IDLE)

    def _drop_work(self) -> None:
        if self.state is FETCHING:
            self._batch.add(effects.StopFetching())
        elif self.state in {TRAINING, EVALUATING}:
            self._batch.add(effects.StopTraining())
        self._work = self._fetch_at = None

    def _let_go(self, transfer: str) -> None:
        """Delete the pending update: it has its final answer."""
        self._batch.keep(pending=None)
        self._batch.add(effects.DeleteUpdate(transfer))
        self._offer_at = None
        if self.state is UPLOADING:
            self._enter(IDLE)
            self._consider()

    def _offer_now(self, now: float) -> None:
        """Offer at once, and then again and again from the shortest wait on."""
        if self._presence.connection is not None and self.state is UPLOADING:
            self._offers.reset()
            self._offer(now)

    def _offer(self, now: float) -> None:
        assert self._batch.kept.pending is not None
        self._batch.publish(topics.OFFER, self._batch.kept.pending)
        self._offer_at = now + self._offers.delay_s()

    def _say_report(self, report: messages.Report) -> None:
        self._report = report
        self._repeat_report()

    def _repeat_report(self) -> None:
        """Say the last report, again after a break: a report has no receipt, and says the same each time."""
        if self._report and self._pulse.alive:
            self._batch.publish(topics.REPORT, self._report)

    def _beat(self, now: float) -> None:
        connection = self._presence.connection
        assert connection is not None
        doing = self._work.assignment if self._work else self._batch.kept.pending
        heartbeat = messages.Heartbeat(
            connection=connection,
            state=self.state,
            run=doing.run if doing else None,
            round=doing.round if doing else None,
            progress=self._work.progress if self._work else float(self.state is UPLOADING),
            examples_per_s=self._work.examples_per_s if self._work else 0.0,
            memory_bytes=self._pulse.vitals.memory_bytes,
            temperature_c=self._pulse.vitals.temperature_c,
            bytes_up=self._pulse.vitals.bytes_up,
            bytes_down=self._pulse.vitals.bytes_down,
        )
        self._batch.publish(topics.HEARTBEAT, heartbeat)
        self._pulse.has_beaten(now)

    def _enter(self, state: AgentState) -> None:
        assert (self.state, state) in TRANSITIONS, f"{self.state} -> {state} is in no table"
        self.state = state
