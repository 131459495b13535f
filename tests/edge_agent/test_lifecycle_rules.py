from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker import topics
from broker.messages import BlobRef, DeclineReason, Invite, Presence
from edge_agent import effects, events
from edge_agent.availability import Hindrance
from edge_agent.lifecycle import Lifecycle
from edge_agent.presence import REMEMBERED_CONNECTIONS
from edge_agent.snapshot import Snapshot
from tests.edge_agent.agent_world import (
    BIRTH,
    DEVICE,
    NEW_THETA,
    PROGRAM,
    THETA,
    World,
    announcement,
    assignment,
    blob,
    federation,
    grant,
    receipt,
    trained,
)

SESSIONS = st.integers(9, 12)
ROUNDS = st.integers(1, 3)
CONNECTIONS = st.sampled_from(["a" * 16, "b" * 16, "c" * 16])
UPDATES = st.sampled_from([blob("4"), blob("6")])
JOBS = st.integers(0, 3)
PHASES = st.sampled_from(["training", "training", "evaluating", "paused"])
COHORTS = st.sampled_from([None, None, (DEVICE,), ("pi-2",)])
HINDRANCES = st.none() | st.sampled_from(
    [Hindrance(DeclineReason.PAUSED, "for 2 h"), Hindrance(DeclineReason.HEAT, "90 °C")]
)
BLOBS = st.sampled_from([PROGRAM, THETA, NEW_THETA])


class AgentRules(RuleBasedStateMachine):
    """Whatever comes, in whatever order: what is said was on the disk before, and nothing grows."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.persisted = Snapshot()
        self.jobs = 0

    def tell(self, event: events.Event) -> None:
        for effect in self.world.tell(event):
            match effect:
                case effects.Persist(snapshot):
                    self.persisted = snapshot
                case effects.Publish(branch, message) if branch is topics.OFFER:
                    assert self.persisted.pending == message
                case effects.Train(job) | effects.Evaluate(job):
                    assert self.persisted.pending is None
                    assert self.world.core._c.availability.hindrance is None
                    assert job > self.jobs
                    self.jobs = job
                case effects.DeleteUpdate():
                    assert self.persisted.pending is None

    @rule(connection=CONNECTIONS)
    def connect(self, connection: str) -> None:
        self.tell(events.Connected(connection))

    @rule()
    def disconnect(self) -> None:
        self.tell(events.Disconnected())

    @rule(connection=CONNECTIONS, online=st.booleans(), retained=st.booleans())
    def see_presence(self, connection: str, *, online: bool, retained: bool) -> None:
        self.tell(events.PresenceSeen(Presence(online=online, connection=connection), retained))

    @rule(session=SESSIONS)
    def hear_federation(self, session: int) -> None:
        self.tell(federation(session))

    @rule(session=SESSIONS, sequence=st.integers(0, 30), number=ROUNDS, phase=PHASES, cohort=COHORTS)
    def hear_round(
        self, session: int, sequence: int, number: int, phase: str, cohort: tuple[str, ...] | None
    ) -> None:
        asked = assignment(number, phase, cohort=cohort, needs={"examples_per_s": 50.0})
        self.tell(announcement(sequence, asked, session))

    @rule(session=SESSIONS, sequence=st.integers(0, 30))
    def hear_no_round(self, session: int, sequence: int) -> None:
        self.tell(announcement(sequence, None, session))

    @rule(number=ROUNDS)
    def hear_invitation(self, number: int) -> None:
        self.tell(Invite(run="run-a", round=number))

    @rule(update=UPDATES, number=ROUNDS, indexes=st.lists(st.integers(0, 3), max_size=3))
    def hear_grant(self, update: BlobRef, number: int, indexes: list[int]) -> None:
        self.tell(grant(tuple(indexes), update, number))

    @rule(update=UPDATES, number=ROUNDS)
    def hear_receipt(self, update: BlobRef, number: int) -> None:
        self.tell(receipt("late", update, number))

    @rule(ref=BLOBS)
    def fetch(self, ref: BlobRef) -> None:
        self.tell(events.Fetched(ref.digest))

    @rule()
    def fetch_all(self) -> None:
        for ref in (PROGRAM, THETA, NEW_THETA):
            self.tell(events.Fetched(ref.digest))

    @rule(ref=BLOBS, fault=st.sampled_from(events.FetchFault))
    def fail_to_fetch(self, ref: BlobRef, fault: events.FetchFault) -> None:
        self.tell(events.FetchFailed(ref.digest, fault, ""))

    @rule(update=UPDATES, behind=JOBS)
    def train(self, update: BlobRef, behind: int) -> None:
        self.tell(trained(self.jobs - behind, update))

    @rule(behind=JOBS)
    def evaluate(self, behind: int) -> None:
        self.tell(events.Evaluated(self.jobs - behind, {}))

    @rule(behind=JOBS)
    def fail(self, behind: int) -> None:
        self.tell(events.TrainingFailed(self.jobs - behind, DeclineReason.DATA, ""))

    @rule(behind=JOBS)
    def die(self, behind: int) -> None:
        self.tell(events.TrainerDied(self.jobs - behind, ""))

    @rule(behind=JOBS)
    def progress(self, behind: int) -> None:
        self.tell(events.TrainingProgressed(self.jobs - behind, 0.5, 1.0))

    @rule(behind=JOBS, speed=st.floats(0, 100))
    def measure(self, behind: int, speed: float) -> None:
        self.tell(events.SpeedMeasured(self.jobs - behind, speed))

    @rule(hindrance=HINDRANCES)
    def judge(self, hindrance: Hindrance | None) -> None:
        self.tell(events.AvailabilityJudged(hindrance))

    @rule(update=UPDATES)
    def lose(self, update: BlobRef) -> None:
        self.tell(events.UpdateLost(update.transfer, ""))

    @rule(seconds=st.floats(0, 60))
    def pass_time(self, seconds: float) -> None:
        self.world.now += seconds
        self.tell(events.TimerFired())
        deadline = self.world.core.next_deadline()
        assert deadline is None or deadline >= self.world.now

    @rule()
    def crash(self) -> None:
        """Start anew from what was on the disk."""
        self.world.core = Lifecycle(DEVICE, BIRTH, Random(2), self.persisted)  # noqa: S311 - no secret
        self.jobs = 0

    @invariant()
    def the_disk_knows_what_must_survive(self) -> None:
        assert self.world.core.snapshot() == self.persisted

    @invariant()
    def nothing_grows(self) -> None:
        core = self.world.core
        assert len(core._c.presence._former) <= REMEMBERED_CONNECTIONS
        assert core._c.work is None or len(core._c.work.missing) <= 2

    def teardown(self) -> None:
        """Once the network heals, a pending update is offered, answered and gone."""
        self.tell(events.Connected("e" * 16))
        pending = self.persisted.pending
        if pending is not None:
            assert self.world.said(topics.OFFER) == [pending]
            self.tell(receipt("accepted", pending.update, pending.round))
        assert self.persisted.pending is None


AgentRules.TestCase.settings = settings(max_examples=100, stateful_step_count=60)
TestAgentRules = AgentRules.TestCase
