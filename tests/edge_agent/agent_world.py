"""Building blocks for scripts of the agent's lifecycle."""

from random import Random
from typing import TypeVar

from broker.contract import DataContract
from broker.messages import (
    Announcement,
    Assignment,
    AssignmentPhase,
    BlobRef,
    Federation,
    Grant,
    Message,
    Offer,
    Presence,
    Receipt,
    ReceiptOutcome,
    TrainingSettings,
)
from broker.topics import Branch
from edge_agent import effects, events
from edge_agent.lifecycle import Lifecycle
from edge_agent.snapshot import Snapshot

DEVICE = "pi-1"
OURS, LATER, OTHER = "a" * 16, "b" * 16, "f" * 16
BIRTH = Presence(online=True, connection="0" * 16, runtimes=("keras",), examples=7)
E = TypeVar("E")


def blob(letter: str, size: int = 3000) -> BlobRef:
    return BlobRef(digest=letter * 64, size=size, chunk_bytes=1024)


PROGRAM, THETA, NEW_THETA, UPDATE = blob("1"), blob("2"), blob("3"), blob("4")
PENDING = Offer(
    run="run-a", round=1, update=UPDATE, examples=7, metrics={"loss": (3.5, 7.0)}, validation={}, seconds=1.5
)
"""What `World.begin_uploading` leaves to be offered."""


def assignment(round_number: int = 1, phase: str = "training", **changes: object) -> Assignment:
    parts: dict[str, object] = {
        "run": "run-a",
        "round": round_number,
        "phase": AssignmentPhase(phase),
        "theta": NEW_THETA if phase == "evaluating" else THETA,
        "program": PROGRAM,
        "layout": "5" * 64,
        "runtime": "keras",
        "contract": DataContract(shape=(4,)),
        "settings": TrainingSettings(seed=3),
    }
    return Assignment.model_validate(parts | changes)


def announcement(sequence: int, assigned: Assignment | None, session: int = 10) -> Announcement:
    return Announcement(session=session, sequence=sequence, assignment=assigned)


def federation(session: int = 10, heartbeat_s: float = 2.0) -> Federation:
    return Federation(session=session, version="1", heartbeat_s=heartbeat_s, aggregator_key="ab" * 32)


def trained(job: int, update: BlobRef = UPDATE) -> events.Trained:
    return events.Trained(job, update, 7, {"loss": (3.5, 7.0)}, {}, 1.5)


def grant(indexes: tuple[int, ...], update: BlobRef = UPDATE, round_number: int = 1) -> Grant:
    return Grant(run="run-a", round=round_number, transfer=update.transfer, indexes=indexes)


def receipt(outcome: str = "accepted", update: BlobRef = UPDATE, round_number: int = 1) -> Receipt:
    return Receipt(run="run-a", round=round_number, transfer=update.transfer, outcome=ReceiptOutcome(outcome))


class World:
    """A lifecycle with a clock of its own; `tell` checks the rules that hold after every event."""

    def __init__(self, snapshot: Snapshot | None = None, seed: int = 1) -> None:
        self.core = Lifecycle(DEVICE, BIRTH, Random(seed), snapshot)  # noqa: S311 - no secret
        self.now = 100.0
        self.effects: list[effects.Effect] = []

    def tell(self, *told: events.Event) -> list[effects.Effect]:
        """Hand over events; the effects of all of them."""
        self.effects = []
        for event in told:
            before = self.core.snapshot()
            batch = self.core.handle(event, self.now)
            self.core.validate()
            check_batch(batch, before, self.core.snapshot())
            self.effects += batch
        return self.effects

    def wait(self) -> list[effects.Effect]:
        """Let the next deadline come."""
        deadline = self.core.next_deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.tell(events.TimerFired())

    def all(self, kind: type[E]) -> list[E]:
        """The last effects of a kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def said(self, branch: Branch) -> list[Message]:
        """What the last effects publish on a branch."""
        return [effect.message for effect in self.all(effects.Publish) if effect.branch is branch]

    def state(self) -> str:
        """What the agent is doing."""
        return self.core.state.value

    def job(self) -> int:
        """The number of the job just started."""
        jobs: list[effects.Train | effects.Evaluate] = [
            *self.all(effects.Train),
            *self.all(effects.Evaluate),
        ]
        (started,) = jobs
        return started.job

    def begin_training(self, round_number: int = 1) -> int:
        """Connected, a round is announced, its blobs are there: training."""
        self.tell(events.Connected(OURS), federation(), announcement(1, assignment(round_number)))
        self.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))
        return self.job()

    def begin_uploading(self) -> None:
        """As `begin_training`, and trained."""
        self.tell(trained(self.begin_training()))


def check_batch(batch: list[effects.Effect], before: Snapshot, after: Snapshot) -> None:
    """What must hold of the effects of any one event."""
    if any(isinstance(effect, effects.Reject) for effect in batch):
        assert len(batch) == 1
        assert before == after
    if before != after:
        assert batch[0] == effects.Persist(after)
    assert not any(isinstance(effect, effects.Persist) for effect in batch[1:])
