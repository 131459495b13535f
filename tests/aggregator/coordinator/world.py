"""A coordinator with a clock, a ledger and a broker's memory, checked after every event."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any, TypeVar

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.phases import TRANSITIONS, Phase
from aggregator.coordinator.state import Run
from aggregator.ledger import Ledger
from aggregator.records import Record, RoundOpened, Transition, UpdateAccepted
from aggregator.run_settings import RunSettings
from broker.contract import DataContract, Needs
from broker.messages import (
    AgentState,
    Assignment,
    AssignmentPhase,
    BlobRef,
    Grant,
    Heartbeat,
    Invite,
    Offer,
    Presence,
    Receipt,
    ReceiptOutcome,
    Report,
)
from broker.names import Metrics

HEARTBEAT_S = 5.0
LOST_AFTER_S = 15.0
RUN, TASK, RUNTIME = "run-a", "mnist", "keras"
PARAMETERS = 1000
E = TypeVar("E")
R = TypeVar("R")


def blob(number: int, size: int = 4000) -> BlobRef:
    return BlobRef(digest=f"{number:016x}" * 4, size=size, chunk_bytes=1024)


PROGRAM, LAYOUT = blob(1), "1" * 64


def theta(number: int) -> BlobRef:
    """The weights after a round."""
    return blob(1000 + number)


def connection(device: str, life: int = 1) -> str:
    return f"{ord(device[-1]):012x}{life:04x}"


def birth(device: str, life: int = 1, *, examples: int = 100, runtime: str = RUNTIME) -> Presence:
    return Presence(online=True, connection=connection(device, life), runtimes=(runtime,), examples=examples)


def death(device: str, life: int = 1) -> Presence:
    return Presence(online=False, connection=connection(device, life))


def heartbeat(device: str, life: int = 1, state: AgentState = AgentState.IDLE) -> Heartbeat:
    return Heartbeat(connection=connection(device, life), state=state)


def at_work(device: str, state: AgentState, progress: float = 0.0, number: int = 1, **more: int) -> Heartbeat:
    """A heartbeat of a device that works on a round; `more` are its counters."""
    beat = heartbeat(device, state=state)
    return beat.model_copy(update={"run": RUN, "round": number, "progress": progress, **more})


def offer(device: str, number: int = 1, version: int = 0, *, run: str = RUN, size: int = 4100) -> Offer:
    """A device's update; another `version` is another content."""
    content = (ord(device[-1]) << 32) + (number << 8) + version + 1
    return Offer(
        run=run,
        round=number,
        update=blob(content, size),
        examples=10 * (version + 1) + ord(device[-1]),
        metrics={"loss": (2.0, 4.0)},
        validation={"accuracy": (3.0, 4.0)},
        seconds=1.5,
    )


def memory_ledger() -> Ledger:
    """A real ledger whose file is memory: the statements count here, not the disk."""
    ledger = Ledger.__new__(Ledger)
    ledger._path = Path("memory")
    ledger._clock = time.time
    # The garbage collector may close it in whichever thread it runs.
    ledger._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    ledger._prepare()
    return ledger


def timeless(snapshot: bytes) -> dict[str, Any]:
    """A snapshot without what changes as time passes."""
    content: dict[str, Any] = json.loads(snapshot)
    if content["run"] is not None:
        content["run"].pop("time_left_s")
        (content["run"]["round"] or {}).pop("open_s", None)
    return content


class World:
    """Tells the coordinator events, carries `Persist` out, and checks the effects of every one."""

    def __init__(self, **settings: object) -> None:
        self.settings = RunSettings.model_validate({"seed": 3, "deadline_s": 100.0} | settings)
        self.now = 50.0
        self.ledger = memory_ledger()
        self.core = Coordinator(HEARTBEAT_S, self.now)
        self.effects: list[do.Effect] = []
        self.records: list[Record] = []
        self.on_broker: set[BlobRef] = set()
        self.announced: Assignment | None = None
        self.numbers: dict[str, int] = {}

    def __del__(self) -> None:
        self.ledger._connection.close()

    # -- events ----------------------------------------------------------------------------------

    def tell(self, *events: on.Event) -> list[do.Effect]:
        """Hand over events; the effects of all of them."""
        told: list[do.Effect] = []
        for event in events:
            told += self._tell_one(event)
        self.effects = told
        return told

    def wait(self, seconds: float) -> list[do.Effect]:
        """Let time pass, and tell the coordinator at its deadlines, as the service's loop does."""
        until, told = self.now + seconds, list[do.Effect]()
        while (due := self.core.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            told += self.tell(on.Tick())
        self.now = until
        self.effects = told
        return told

    def live(self, seconds: float, *devices: str, life: int = 1) -> list[do.Effect]:
        """Let time pass while these devices are heard."""
        until, told = self.now + seconds, list[do.Effect]()
        while self.now < until:
            told += self.beat(*devices, life=life)
            told += self.wait(min(HEARTBEAT_S, until - self.now))
        told += self.beat(*devices, life=life)
        self.effects = told
        return told

    def born(self, *devices: str, life: int = 1) -> list[do.Effect]:
        return self.tell(*(on.DevicePresence(d, birth(d, life)) for d in devices))

    def born_with(self, device: str, **changes: object) -> list[do.Effect]:
        """A birth that says something else than usual."""
        return self.tell(on.DevicePresence(device, birth(device).model_copy(update=changes)))

    def died(self, *devices: str, life: int = 1, retained: bool = False) -> list[do.Effect]:
        return self.tell(*(on.DevicePresence(d, death(d, life), retained) for d in devices))

    def beat(self, *devices: str, life: int = 1) -> list[do.Effect]:
        return self.tell(*(on.DeviceHeartbeat(d, heartbeat(d, life)) for d in devices))

    def train(self, until_s: float, **rates: float) -> list[do.Effect]:
        """Let these devices train, each this fraction a second, until so many seconds into the round."""
        told: list[do.Effect] = []
        begun = self.now - self.into_round()
        while self.into_round() < until_s:
            for device, rate in rates.items():
                done = min(1.0, rate * (self.now - begun))
                beat = at_work(device, AgentState.TRAINING, done, self.number)
                told += self.tell(on.DeviceHeartbeat(device, beat))
            told += self.wait(min(HEARTBEAT_S, until_s - self.into_round()))
            if self.phase() is not Phase.TRAINING:
                break
        self.effects = told
        return told

    def into_round(self) -> float:
        """Seconds since the open round began."""
        current, deadline = self.run.round, self.core._c.deadline
        assert current is not None
        assert deadline is not None
        return current.deadline_s - (deadline - self.now)

    def offer(self, device: str, number: int | None = None, version: int = 0) -> list[do.Effect]:
        return self.tell(on.UpdateOffered(device, offer(device, number or self.number, version)))

    def upload(self, *devices: str, version: int = 0) -> list[do.Effect]:
        """Offer, be admitted, and have the update verified in the spool."""
        told: list[do.Effect] = []
        for device in devices:
            update = offer(device, self.number, version)
            assert self.tell(on.UpdateOffered(device, update)) == [do.Admit(device, update)]
            told += self.tell(on.UpdateReceived(device, update))
        self.effects = told
        return told

    def report(self, device: str, metrics: Metrics | None = None) -> list[do.Effect]:
        given = metrics or {"accuracy": (3.0, 4.0)}
        return self.tell(on.DeviceReport(device, Report(run=RUN, round=self.number, metrics=given)))

    def start(self) -> list[do.Effect]:
        return self.tell(on.StartRun(RUN, TASK, self.settings, "0" * 16))

    def prepared(self, **needs: object) -> list[do.Effect]:
        contract, needed = DataContract(shape=(4,)), Needs.model_validate(needs)
        return self.tell(on.Prepared(RUN, theta(0), PROGRAM, LAYOUT, RUNTIME, contract, PARAMETERS, needed))

    def published(self) -> list[do.Effect]:
        """The broker acknowledged what the coordinator wants to be there."""
        model = self.run.model
        assert model is not None
        return self.tell(on.BlobsPublished(model.blobs))

    def aggregated(self) -> list[do.Effect]:
        return self.tell(on.Aggregated(RUN, self.number, theta(self.number)))

    def evaluated(self, metrics: Metrics | None = None) -> list[do.Effect]:
        return self.tell(on.Evaluated(RUN, self.number, metrics or {"accuracy": (9.0, 10.0)}))

    # -- to begin with ------------------------------------------------------------------------------

    def begin_waiting(self, **needs: object) -> None:
        """Connected, a run started, its model on the broker: waiting for devices."""
        self.tell(on.Connected())
        self.start()
        self.prepared(**needs)
        self.published()

    def begin_training(self, *devices: str) -> None:
        """A round with these devices."""
        self.tell(on.Connected())
        self.born(*devices)
        self.start()
        self.prepared()
        self.published()
        assert self.phase() is Phase.TRAINING

    def begin_evaluating(self, *devices: str) -> None:
        """A round with updates of these devices, its new theta on the broker."""
        self.begin_training(*devices)
        self.upload(*devices)
        self.aggregated()
        self.published()
        assert self.phase() is Phase.EVALUATING

    def restart(self) -> list[do.Effect]:
        """The process dies, and another one goes on from the ledger."""
        snapshot = self.ledger.snapshot()
        assert snapshot is not None
        self.core = Coordinator.restore(snapshot, HEARTBEAT_S, self.now)
        self.on_broker.clear()
        return self.tell(on.Restored())

    # -- what came of it -----------------------------------------------------------------------------

    @property
    def run(self) -> Run:
        """The active run."""
        assert self.core.run is not None
        return self.core.run

    def phase(self) -> Phase:
        """Where the coordinator is now."""
        return self.core.phase

    def paused(self) -> str | None:
        """Why the run is paused, if it is."""
        return self.run.paused

    def asks(self) -> AssignmentPhase | None:
        """What devices are to do, as announced last."""
        return None if self.announced is None else self.announced.phase

    @property
    def number(self) -> int:
        """The newest round."""
        return self.run.last_round

    @property
    def cohort(self) -> list[str]:
        """Who takes part in the open round."""
        assert self.run.round is not None
        return sorted(self.run.round.cohort)

    def all(self, kind: type[E]) -> list[E]:
        """The last effects of a kind."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def noted(self, kind: type[R]) -> list[R]:
        """What the last effects have the ledger remember."""
        return [r for persist in self.all(do.Persist) for r in persist.records if isinstance(r, kind)]

    def receipts(self) -> list[tuple[str, str, str | None]]:
        """The last answers to offers."""
        sent = [(e.device, e.message) for e in self.all(do.Send) if isinstance(e.message, Receipt)]
        return [(device, message.outcome, message.reason) for device, message in sent]

    def invited(self) -> list[str]:
        """Whom the last effects invite."""
        return [effect.device for effect in self.all(do.Send) if isinstance(effect.message, Invite)]

    def rejected(self) -> str:
        """Why the last event was not legal."""
        (effect,) = self.all(do.Reject)
        return effect.reason

    # -- what must hold -----------------------------------------------------------------------------

    def _tell_one(self, event: on.Event) -> list[do.Effect]:
        before = timeless(self.core.snapshot())
        if isinstance(event, on.Connected | on.Disconnected):
            self.on_broker.clear()
        if isinstance(event, on.BlobsPublished):
            self.on_broker.update(event.blobs)
        effects = self.core.handle(event, self.now)
        self.core.validate()
        if any(isinstance(effect, do.Reject) for effect in effects):
            assert len(effects) == 1
            assert timeless(self.core.snapshot()) == before
        for place, effect in enumerate(effects):
            self._check(effect, first=place == 0)
        assert sum(isinstance(effect, do.Announce) for effect in effects) <= 1
        self._check_nothing_was_overlooked()
        self._check_restore()
        return effects

    def _check(self, effect: do.Effect, *, first: bool) -> None:
        if isinstance(effect, do.Persist):
            assert first
            assert effect.snapshot == self.core.snapshot()
            for record in effect.records:
                self._check_record(record)
            self.ledger.commit(effect.records, effect.snapshot)
            self.records += effect.records
        elif isinstance(effect, do.Announce):
            self._check_announcement(effect)
        elif isinstance(effect, do.RetractBlobs):
            assert self.announced is None or set(self._blobs(self.announced)) <= set(effect.keep)
        elif isinstance(effect, do.Send):
            self._check_message(effect.device, effect.message)

    def _check_record(self, record: Record) -> None:
        if isinstance(record, Transition):
            table = {(str(source), str(target)) for source, target in TRANSITIONS}
            assert "paused" in {record.source, record.target} or (record.source, record.target) in table
        elif isinstance(record, RoundOpened):
            assert record.round > self.numbers.get(record.run, 0), "a round number was used again"
            self.numbers[record.run] = record.round
        elif isinstance(record, UpdateAccepted):
            carried = {(one.round, one.device): one.examples for one in self.run.carried}
            current = self.run.round
            if (record.round, record.device) in carried:
                assert carried[record.round, record.device] == record.examples
            elif current is not None:
                part = current.cohort[record.device]
                assert (part.accepted, part.examples) == (record.digest, record.examples)

    def _check_announcement(self, effect: do.Announce) -> None:
        self.announced = effect.assignment
        if effect.assignment is not None:
            assert set(self._blobs(effect.assignment)) <= self.on_broker, "announced before it can be fetched"
            assert (effect.expiry_s is None) == (effect.assignment.phase == "paused")

    def _check_message(self, device: str, message: Receipt | Invite | Grant | object) -> None:
        if isinstance(message, Receipt) and message.outcome is ReceiptOutcome.ACCEPTED:
            answer = self.ledger.answer(message.run, message.round, device, message.transfer)
            assert answer.outcome is ReceiptOutcome.ACCEPTED, "a receipt for what the ledger does not know"
        elif isinstance(message, Invite):
            names = {row.device for row in self.ledger.participants(message.run, message.round)}
            assert device in names, "an invitation that the ledger does not know"

    def _check_nothing_was_overlooked(self) -> None:
        """What was skipped because an event was no news, was of no consequence."""
        core, before = self.core, self.core.snapshot()
        due, exact = core.next_deadline(), core._find_next_deadline()
        assert (due is None) == (exact is None)
        assert due is None or exact is None or due <= exact
        core._c.effects, core._c.records = [], []
        core._advance()
        assert (core._c.effects, core._c.records) == ([], [])
        assert core.snapshot() == before

    def _check_restore(self) -> None:
        snapshot = self.core.snapshot()
        assert Coordinator.restore(snapshot, HEARTBEAT_S, 0.0).snapshot() == snapshot

    @staticmethod
    def _blobs(assignment: Assignment) -> tuple[BlobRef, BlobRef]:
        return assignment.program, assignment.theta
