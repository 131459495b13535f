"""Any order of events: devices, broker, operator, workers and crashes, against a model of what counts."""

from hypothesis import Phase as Stage
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.phases import Decision, Phase, RunOutcome
from aggregator.ledger import Ledger
from aggregator.records import Decided, RunEnded, UpdateAccepted
from aggregator.run_settings import RunSettings
from broker.contract import DataContract, Needs
from broker.messages import (
    AgentState,
    BlobRef,
    DeclineReason,
    Offer,
    Receipt,
    ReceiptOutcome,
    RejectReason,
    Report,
)
from broker.sealing import sealed_size
from tests.aggregator.coordinator.world import (
    HEARTBEAT_S,
    LAYOUT,
    PARAMETERS,
    PROGRAM,
    RUNTIME,
    TASK,
    World,
    at_work,
    birth,
    blob,
    death,
    heartbeat,
    offer,
    theta,
)

DEVICES = "abcde"
devices = st.sampled_from(DEVICES)
lives = st.integers(3, 4)
# A connection that no rule draws: whoever declined for good may have been mended.
MENDED = 5
SPEED = 50.0
PASSING = (DeclineReason.PAUSED, DeclineReason.HEAT)
run_settings = st.builds(
    RunSettings,
    rounds=st.integers(1, 3),
    seed=st.integers(0, 3),
    fraction=st.sampled_from([0.4, 1.0]),
    min_devices=st.integers(1, 2),
    target=st.none() | st.integers(2, 3),
    quorum=st.none() | st.integers(1, 2),
    over_selection=st.sampled_from([1.0, 1.5]),
    deadline_s=st.sampled_from([20.0, 60.0]),
    min_deadline_s=st.none() | st.just(10.0),
    min_over_selection=st.none() | st.just(1.0),
    straggler_factor=st.sampled_from([None, 1.0, 3.0]),
    grace_s=st.sampled_from([0.0, 10.0]),
    evaluation_deadline_s=st.sampled_from([5.0, 30.0]),
    late=st.sampled_from(["discard", "carry"]),
    federated_evaluation=st.booleans(),
    abandoned_limit=st.integers(1, 3),
)
Key = tuple[str, int, str]
Accepted = dict[Key, tuple[str, int]]


class Anything(RuleBasedStateMachine):
    """The world checks each list of effects; this machine what must hold over time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.runs = 0
        self.connected = False
        self.accepted: Accepted = {}
        self.late: set[Key] = set()
        """Accepted, but for the round after theirs."""
        self.carried: dict[tuple[str, int], set[Key]] = {}
        self.used: set[Key] = set()
        """Late ones that a new model took in."""
        self.admitted: dict[str, tuple[str, Offer]] = {}
        self.asked: list[do.Effect] = []
        self.publishing: tuple[BlobRef, ...] = ()

    # -- what every event goes through ---------------------------------------------------------------

    def tell(self, event: on.Event) -> list[do.Effect]:
        """One event, and what the shell remembers of its effects."""
        seen = len(self.world.records)
        effects = self.world.tell(event)
        for record in self.world.records[seen:]:
            if isinstance(record, UpdateAccepted):
                key = (record.run, record.round, record.device)
                assert key not in self.accepted, "a second update of a device counts"
                self.accepted[key] = (record.digest, record.examples)
            if isinstance(record, Decided) and record.decision == Decision.CARRIES:
                assert record.device is not None
                self.late.add((record.run, record.round, record.device))
        if isinstance(event, on.Aggregated) and not isinstance(effects[0], do.Reject):
            now_used = self.carried.get((event.run, event.round), set())
            assert not now_used & self.used, "a late update counts twice"
            self.used |= now_used
        for effect in effects:
            self.carry_out(effect)
        return effects

    def carry_out(self, effect: do.Effect) -> None:
        if isinstance(effect, do.Prepare | do.Aggregate | do.Evaluate):
            self.asked.append(effect)
        if isinstance(effect, do.Aggregate):
            counted = {
                device: examples
                for (run, number, device), (_, examples) in self.accepted.items()
                if (run, number) == (effect.run, effect.round) and (run, number, device) not in self.late
            }
            for one in effect.carried:
                assert self.accepted[effect.run, one.round, one.device][1] == one.examples
            keys = {(effect.run, one.round, one.device) for one in effect.carried}
            assert len(keys) == len(effect.carried)
            assert keys <= self.late
            self.carried[effect.run, effect.round] = keys
            assert dict(effect.updates) == counted, "what is aggregated is not what the ledger accepted"
            assert list(effect.updates) == sorted(effect.updates)
        elif isinstance(effect, do.PublishBlobs):
            self.publishing = effect.blobs
        elif isinstance(effect, do.Admit):
            assert effect.offer.update.size <= sealed_size(4 * PARAMETERS + 8192)
            update = effect.offer
            key = f"{effect.device} {update.run} {update.round} {update.update.transfer}"
            self.admitted[key] = effect.device, update
        elif isinstance(effect, do.Announce) and effect.assignment is not None:
            assert self.connected
        elif isinstance(effect, do.Send) and isinstance(effect.message, Receipt):
            message = effect.message
            counted_digest, _ = self.accepted.get((message.run, message.round, effect.device), ("", 0))
            same = counted_digest[:16] == message.transfer
            assert (message.outcome is ReceiptOutcome.ACCEPTED) == same

    @property
    def run(self) -> str:
        """The active run, or one that never was."""
        return self.world.core.run.run if self.world.core.run else "run-0"

    @property
    def number(self) -> int:
        """The newest round."""
        return max(1, self.world.core.run.last_round) if self.world.core.run else 1

    @initialize(given=run_settings)
    def begin(self, given: RunSettings) -> None:
        self.connect()
        self.everybody_is_heard()
        self.start(given)
        self.work_done(1)
        self.blobs_published()

    # -- devices -------------------------------------------------------------------------------------

    @rule(device=devices, life=lives, slow=st.booleans(), unavailable=st.sampled_from([None, *PASSING]))
    def birth(self, device: str, life: int, slow: bool, unavailable: DeclineReason | None) -> None:  # noqa: FBT001 - drawn by name
        says = {"speeds": {PROGRAM.digest: SPEED / 2} if slow else {}, "unavailable": unavailable}
        self.tell(on.DevicePresence(device, birth(device, life).model_copy(update=says)))

    @rule(device=devices, life=lives, retained=st.booleans())
    def death(self, device: str, life: int, retained: bool) -> None:  # noqa: FBT001 - drawn by name
        self.tell(on.DevicePresence(device, death(device, life), retained))

    @rule(device=devices, life=lives)
    def heartbeat(self, device: str, life: int) -> None:
        self.tell(on.DeviceHeartbeat(device, heartbeat(device, life)))

    @rule(device=devices, progress=st.floats(0, 1), state=st.sampled_from(AgentState), back=st.integers(0, 1))
    def work_goes_on(self, device: str, progress: float, state: AgentState, back: int) -> None:
        known = self.world.core.fleet.devices.get(device)
        if known is not None:
            counters = dict.fromkeys(("bytes_up", "bytes_down"), int(4000 * progress))
            beat = at_work(device, state, progress, max(1, self.number - back), **counters)
            from_here = {"connection": known.presence.connection, "run": self.run}
            self.tell(on.DeviceHeartbeat(device, beat.model_copy(update=from_here)))

    @rule()
    def everybody_is_heard(self, life: int = 4) -> None:
        for device in DEVICES:
            self.tell(on.DevicePresence(device, birth(device, life)))

    @rule(names=st.sets(devices, min_size=1), version=st.integers(0, 1))
    def everything_goes_well(self, names: set[str], version: int) -> None:
        """What is asked for is done, and some devices do what they should."""
        if self.publishing and self.connected:
            self.blobs_published()
        if self.asked:
            self.work_done(1)
        for device in sorted(names):
            if self.world.phase() is Phase.TRAINING:
                update = offer(device, self.number, version, run=self.run)
                if do.Admit(device, update) in self.tell(on.UpdateOffered(device, update)):
                    self.tell(on.UpdateReceived(device, update))
            elif self.world.phase() is Phase.EVALUATING:
                self.report(device, 1.0)

    @rule(device=devices, version=st.integers(0, 1), back=st.integers(0, 1), huge=st.booleans())
    def offer(self, device: str, version: int, back: int, huge: bool) -> None:  # noqa: FBT001
        size = sealed_size(4 * PARAMETERS + 8192) + 1 if huge else 4100
        self.tell(
            on.UpdateOffered(
                device, offer(device, max(1, self.number - back), version, run=self.run, size=size)
            )
        )

    @rule(device=devices, version=st.integers(0, 1))
    def offer_for_another_run(self, device: str, version: int) -> None:
        update = offer(device, self.number, version, run="run-x")
        assert do.AnswerFromLedger(device, update) in self.tell(on.UpdateOffered(device, update))

    @precondition(lambda self: self.admitted)
    @rule(data=st.data(), again=st.booleans())
    def update_received(self, data: st.DataObject, again: bool) -> None:  # noqa: FBT001
        self.tell(on.UpdateReceived(*self.one_admitted(data, again=again)))

    @precondition(lambda self: self.admitted)
    @rule(data=st.data(), reason=st.sampled_from(RejectReason))
    def update_rejected(self, data: st.DataObject, reason: RejectReason) -> None:
        self.tell(on.UpdateRejected(*self.one_admitted(data, again=False), reason))

    @rule(device=devices, version=st.integers(0, 1))
    def update_that_nobody_admitted(self, device: str, version: int) -> None:
        self.tell(on.UpdateReceived(device, offer(device, self.number, version, run=self.run)))

    @rule(device=devices, loss=st.sampled_from([1.0, 1.7e308]))
    def report(self, device: str, loss: float) -> None:
        report = Report(run=self.run, round=self.number, metrics={"loss": (loss, 2.0)})
        self.tell(on.DeviceReport(device, report))

    @rule(device=devices, reason=st.sampled_from(DeclineReason))
    def decline(self, device: str, reason: DeclineReason) -> None:
        self.tell(on.DeviceReport(device, Report(run=self.run, round=self.number, declined=reason)))

    # -- operator ------------------------------------------------------------------------------------

    @rule(given=run_settings)
    def start(self, given: RunSettings) -> None:
        self.runs += 1
        self.tell(on.StartRun(f"run-{self.runs}", TASK, given))

    @precondition(lambda self: self.world.core.run is not None)
    @rule(chance=st.integers(0, 3))
    def stop(self, chance: int) -> None:
        if chance == 0:
            self.tell(on.StopRun())

    @rule()
    def pause(self) -> None:
        self.tell(on.PauseRun())

    @rule()
    def resume(self) -> None:
        self.tell(on.ResumeRun())

    # -- what was asked for ----------------------------------------------------------------------------

    @precondition(lambda self: self.asked)
    @rule(fails=st.integers(0, 4))
    def work_done(self, fails: int) -> None:
        effect = self.asked.pop(0)
        self.tell(failure_of(effect) if fails == 0 else success_of(effect))

    @precondition(lambda self: self.connected and self.publishing)
    @rule()
    def blobs_published(self) -> None:
        self.tell(on.BlobsPublished(self.publishing))
        self.publishing = ()

    # -- broker, time, crashes -------------------------------------------------------------------------

    @rule()
    def connect(self) -> None:
        self.connected, self.publishing = True, ()
        self.tell(on.Connected())

    @precondition(lambda self: self.connected)
    @rule()
    def disconnect(self) -> None:
        self.connected, self.publishing = False, ()
        self.tell(on.Disconnected())

    @rule(seconds=st.floats(0.1, 16))
    def time_passes(self, seconds: float) -> None:
        until = self.world.now + seconds
        while (due := self.world.core.next_deadline()) is not None and due <= until:
            self.world.now = max(self.world.now, due)
            self.tell(on.Tick())
            following = self.world.core.next_deadline()
            assert following is None or following > self.world.now, "a deadline that does not pass"
        self.world.now = until

    @rule(seconds=st.floats(30, 5000))
    def oversleep(self, seconds: float) -> None:
        self.world.now += seconds
        self.tell(on.Tick())

    @rule(seconds=st.floats(0, 100))
    def crash(self, seconds: float) -> None:
        """The process dies after its last Persist, with every effect that came behind it."""
        snapshot = self.world.ledger.snapshot()
        self.world.now += seconds
        self.connected, self.publishing = False, ()
        self.admitted.clear()
        self.asked.clear()
        self.world.on_broker.clear()
        self.world.core = (
            Coordinator(HEARTBEAT_S, self.world.now)
            if snapshot is None
            else Coordinator.restore(snapshot, HEARTBEAT_S, self.world.now)
        )
        self.tell(on.Restored())

    @rule(device=devices)
    def crash_before_persist(self, device: str) -> None:
        """The core decided, the ledger never heard of it: a successor knows nothing of it either."""
        update = offer(device, self.number, run=self.run)
        self.world.core.handle(on.UpdateReceived(device, update), self.world.now)
        self.crash(0.0)

    # -- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def every_open_round_that_is_not_paused_has_a_deadline(self) -> None:
        core = self.world.core
        if core.run is not None and core.phase in {Phase.TRAINING, Phase.EVALUATING}:
            assert (core.next_deadline() is None) == (core.run.paused is not None)

    @invariant()
    def what_is_accepted_is_what_the_ledger_has(self) -> None:
        core = self.world.core
        if core.run is None or core.run.round is None:
            return
        run, number = core.run.run, core.run.round.number
        counted = {
            device: (part.accepted, part.examples)
            for device, part in core.run.round.cohort.items()
            if part.accepted
        }
        modelled = {
            key[2]: kept
            for key, kept in self.accepted.items()
            if key[:2] == (run, number) and key not in self.late
        }
        rows = [
            row
            for row in self.world.ledger.participants(run, number)
            if (run, number, row.device) not in self.late
        ]
        assert counted == modelled == {r.device: (r.digest, r.examples) for r in rows if r.digest}

    @invariant()
    def what_is_late_is_used_or_on_its_way_or_given_up(self) -> None:
        core = self.world.core
        if core.run is None:
            return
        on_their_way = {(core.run.run, one.round, one.device) for one in core.run.carried}
        if core.run.round is not None:
            on_their_way |= {(core.run.run, one.round, one.device) for one in core.run.round.carried}
        dropped = {
            (r.run, r.round, r.device)
            for r in self.world.records
            if isinstance(r, Decided) and r.decision == Decision.DROPS
        }
        late = {key for key in self.late if key[0] == core.run.run}
        assert late == on_their_way | {key for key in self.used | dropped if key[0] == core.run.run}

    @invariant()
    def collections_are_bounded(self) -> None:
        core = self.world.core
        assert len(core.fleet.devices) <= len(DEVICES)
        if core.run is not None and core.run.round is not None:
            assert set(core.run.round.cohort) <= set(DEVICES)
            assert set(core.run.round.reports) <= set(DEVICES)
        if core.run is not None:
            assert set(core.run.declined) <= set(DEVICES)
            assert set(core.run.experience.back_offs) <= set(DEVICES)

    @invariant()
    def work_that_is_waited_for_was_asked_for(self) -> None:
        core = self.world.core
        waited_for = {
            Phase.PREPARING: do.Prepare,
            Phase.AGGREGATING: do.Aggregate,
        }.get(core.phase)
        if waited_for is not None:
            assert any(isinstance(effect, waited_for) for effect in self.asked)

    def one_admitted(self, data: st.DataObject, *, again: bool) -> tuple[str, Offer]:
        """An upload that is through; `again`: its event comes twice."""
        key = data.draw(st.sampled_from(sorted(self.admitted)))
        return self.admitted[key] if again else self.admitted.pop(key)

    def teardown(self) -> None:
        """Liveness: on a network and with devices that work, every run comes to its end."""
        if self.is_active():
            self.connect()
            for _ in range(200):
                if self.is_active():
                    self.help_on()
            assert not self.is_active(), f"stuck in {self.world.phase()}"
            ended = [record for record in self.world.records if isinstance(record, RunEnded)]
            assert ended[-1].outcome == RunOutcome.FINISHED
        assert every_round_is_closed(self.world.ledger)

    def is_active(self) -> bool:
        """Whether there is a run."""
        return self.world.core.run is not None

    def help_on(self) -> None:
        """One step of a run in which everybody does what they should."""
        world = self.world
        self.everybody_is_heard(MENDED)
        for device in DEVICES:
            self.tell(on.DeviceHeartbeat(device, heartbeat(device, MENDED)))
        if world.core.run is not None and world.core.run.paused is not None:
            self.resume()
        if self.publishing:
            self.blobs_published()
        if self.asked:
            self.work_done(1)
        for device in DEVICES:
            if world.phase() is Phase.TRAINING:
                self.tell(on.UpdateOffered(device, offer(device, self.number, run=self.run)))
            elif world.phase() is Phase.EVALUATING:
                self.report(device, 1.0)
        for _, admitted in sorted(self.admitted.items()):
            self.tell(on.UpdateReceived(*admitted))
        self.admitted.clear()
        self.time_passes(1.0)


def success_of(effect: do.Effect) -> on.Event:
    if isinstance(effect, do.Prepare):
        contract = DataContract(shape=(4,))
        needs = Needs(examples_per_s=SPEED)
        return on.Prepared(effect.run, theta(0), PROGRAM, LAYOUT, RUNTIME, contract, PARAMETERS, needs)
    if isinstance(effect, do.Aggregate):
        return on.Aggregated(effect.run, effect.round, blob(2000 + effect.round))
    assert isinstance(effect, do.Evaluate)
    return on.Evaluated(effect.run, effect.round, {"accuracy": (1.0, 2.0)})


def failure_of(effect: do.Effect) -> on.Event:
    if isinstance(effect, do.Prepare):
        return on.PrepareFailed(effect.run, "no such layer")
    if isinstance(effect, do.Aggregate):
        return on.AggregationFailed(effect.run, effect.round, "not finite")
    assert isinstance(effect, do.Evaluate)
    return on.EvaluationFailed(effect.run, effect.round, "out of memory")


def every_round_is_closed(ledger: Ledger) -> bool:
    return all(row.outcome is not None for summary in ledger.runs() for row in ledger.rounds(summary.run))


Anything.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    phases=[Stage.explicit, Stage.generate, Stage.shrink],
)
TestAnything = Anything.TestCase
