"""What every rule of the lifecycle works on: our state, the work in hand, the clock, what is to be done."""

from collections.abc import Container
from dataclasses import dataclass
from random import Random

from broker.messages import (
    MAX_SPEEDS,
    AgentState,
    Assignment,
    DeclineReason,
    Message,
    Offer,
    Presence,
    Report,
)
from broker.needs import Misfit, find_misfit
from broker.topics import PRESENCE, REPORT, Branch
from edge_agent import effects as do
from edge_agent.availability import Availability
from edge_agent.backoff import LONGEST_S, Backoff
from edge_agent.duty import Duty, key_of
from edge_agent.presence import OwnPresence
from edge_agent.pulse import Pulse
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


class IllegalEventError(Exception):
    """The event makes no sense now; nothing was changed."""

    def __init__(self, reason: str, *, warning: bool = False) -> None:
        super().__init__(reason)
        self.warning = warning


def refuse_unless(legal: bool, reason: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Give up on an event, before it changed anything."""
    if not legal:
        raise IllegalEventError(reason)


@dataclass
class Work:
    """The assignment in hand, until it is an update, a report or dropped."""

    assignment: Assignment
    missing: set[str]
    job: int = 0
    progress: float = 0.0
    examples_per_s: float = 0.0


class Context:
    """The agent's state while it handles an event; times in seconds of the clock given to `handle`."""

    def __init__(self, device: str, birth: Presence, random: Random, kept: Snapshot) -> None:
        self.device = device
        self.kept = kept
        self.state = IDLE if kept.pending is None else UPLOADING
        self.now = 0.0
        self.presence = OwnPresence(birth)
        self.runtimes = birth.runtimes
        self.pulse = Pulse()
        self.availability = Availability()
        self.duty = Duty(device)
        self.session = kept.session
        self.work: Work | None = None
        self.jobs = 0
        self.retried: RoundKey | None = None
        self.report = kept.report
        self.offers, self.fetches = Backoff(random), Backoff(random)
        self.offer_at: float | None = None
        self.fetch_at: float | None = None
        self.check_in_at: float | None = None
        self._changed = False
        self._effects: list[do.Effect] = []

    # -- what stands ------------------------------------------------------------------------------

    @property
    def online(self) -> bool:
        """Whether we are connected and the id is ours: then the heart beats, and we speak."""
        return self.pulse.alive

    def pending(self, transfer: str) -> Offer:
        """The update that awaits its final answer, when it is this one, or the event is illegal."""
        pending = self.kept.pending
        if pending is None or pending.update.transfer != transfer:
            raise IllegalEventError(f"update {transfer} is not pending")
        return pending

    def job(self, number: int, states: Container[AgentState] = (TRAINING, EVALUATING)) -> Work:
        """The work, when the trainer has it under this number, or the event is illegal."""
        work = self.work
        if work is None or self.state not in states or number != work.job:
            raise IllegalEventError(f"job {number} is not being done")
        return work

    def misfit(self, asked: Assignment) -> Misfit | None:
        """What we lack of what the task needs."""
        return find_misfit(self._birth(), asked.needs, asked.program.digest)

    def _birth(self) -> Presence:
        hindrance = self.availability.hindrance
        told = {} if hindrance is None else {"unavailable": hindrance.reason, "detail": hindrance.detail}
        return self.presence.birth().model_copy(update={"speeds": self.kept.speeds, **told})

    # -- what changes ------------------------------------------------------------------------------

    def enter(self, state: AgentState) -> None:
        """Take a transition of the table."""
        assert (self.state, state) in TRANSITIONS, f"{self.state} -> {state} is in no table"
        self.state = state
        if state is not UPLOADING:
            self.offer_at = None

    def drop_work(self, state: AgentState) -> None:
        """Leave the work in hand for another state; nothing of it is wanted any more.

        What asked for it must not come back by its being said again, not even after a restart.
        """
        if self.state is FETCHING:
            self.add(do.StopFetching())
        elif self.state in {TRAINING, EVALUATING}:
            self.add(do.StopTraining())
        self.work = self.fetch_at = None
        self.enter(state)
        self.keep()

    def offer_soon(self) -> None:
        """Offer what is pending at once, and then again and again from the shortest wait on."""
        if self.online and self.state is UPLOADING:
            self.offers.reset()
            self.offer_at = self.now

    def check_in_soon(self) -> None:
        """Say again what a new aggregator may not know, some time within a heartbeat: a whole fleet does."""
        if self.online and (self.report is not None or self.state is UPLOADING):
            self.check_in_at = self.now + self.offers.within_s(min(self.pulse.interval_s, LONGEST_S))

    def check_in_when_due(self) -> None:
        """Say the last report, and offer what is pending."""
        if self.check_in_at is not None and self.now >= self.check_in_at:
            self.check_in_at = None
            self.repeat_report()
            self.offer_soon()

    def keep(self, **changes: object) -> None:
        """Change what must survive a restart: it is on the disk before anything else is done.

        How far announcements have come goes with every change, so that it needs no write of its own.
        """
        if self.duty.order is not None:
            changes["session"], changes["sequence"] = self.duty.order
        self.kept = self.kept.model_copy(update=changes)
        self._changed = True

    def keep_speed(self, program: str, examples_per_s: float) -> None:
        """Remember how fast we are with a program, and forget the oldest of many."""
        speeds = {**self.kept.speeds, program: examples_per_s}
        self.keep(speeds=dict(list(speeds.items())[-MAX_SPEEDS:]))

    # -- what is said and done ---------------------------------------------------------------------

    def add(self, effect: do.Effect) -> None:
        """Ask for one more effect."""
        self._effects.append(effect)

    def publish(self, branch: Branch, message: Message) -> None:
        """Ask for a message to be said."""
        self.add(do.Publish(branch, message))

    def log(self, text: str, *, warning: bool = False) -> None:
        """Ask for a line for people."""
        self.add(do.Log(text, warning))

    def say_birth(self) -> None:
        """Tell who is connected, and what it can."""
        self.publish(PRESENCE, self._birth())

    def say_report(self, report: Report) -> None:
        """Tell what became of a round's work."""
        self.report = report
        self.repeat_report()

    def repeat_report(self) -> None:
        """Say the last report, again after a break: a report has no receipt, and says the same each time."""
        if self.report is not None and self.online:
            self.publish(REPORT, self.report)

    def say_declined(self, what: Assignment | Offer, reason: DeclineReason, detail: str) -> None:
        """Tell why nothing will come of a round's work."""
        declined = f"round {what.round} declined, {reason}: {detail}"
        self.add(do.Log(declined, warning=True, run=what.run, round=what.round))
        self.say_report(Report(run=what.run, round=what.round, declined=reason, detail=detail[:MAX_DETAIL]))

    def decline(self, assignment: Assignment, reason: DeclineReason, detail: str) -> None:
        """Take no part in this phase of a round any more, and say why; the work in hand is dropped."""
        self.duty.declined = key_of(assignment), assignment.phase
        self.say_declined(assignment, reason, detail)
        if self.work is not None:
            self.drop_work(IDLE)

    def take(self) -> list[do.Effect]:
        """Hand over what is to be done, in order: what must survive a restart comes first."""
        taken = [*([do.Persist(self.kept)] if self._changed else []), *self._effects]
        self._effects, self._changed = [], False
        return taken

    def validate(self) -> None:
        """Raise AssertionError where the parts of the state contradict each other."""
        connected = self.presence.connection is not None
        assert (self.work is not None) == (self.state in WORKING)
        assert (self.kept.pending is not None) == (self.state is UPLOADING) or self.state is DISPLACED
        assert bool(self.work and self.work.missing) == (self.state is FETCHING)
        assert self.online == (connected and self.state is not DISPLACED)
        assert (self.offer_at is not None) == (self.online and self.state is UPLOADING)
        assert self.fetch_at is None or self.state is FETCHING
        assert self.check_in_at is None or self.online
        assert not self._effects
        assert not self._changed
