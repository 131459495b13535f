"""The coordinator: events in, effects out.

`handle` calls the one rule for the type of the event. A rule first refuses what is illegal, and only then
changes anything. Afterwards the phase is asked whether its time has come, unless the event was no news: a
heartbeat that only says that a device goes on costs the same in a fleet of any size. Facts for the ledger
leave as one `Persist` at the head of the effects, so that nothing is published that a crash could forget.
"""

from collections.abc import Callable, Mapping
from typing import Any

from aggregator.coordinator import course, evaluating, mishaps, operating, stragglers, training
from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.context import Context, IllegalEventError
from aggregator.coordinator.fitness import is_busy
from aggregator.coordinator.fleet import Fleet
from aggregator.coordinator.phases import Phase
from aggregator.coordinator.state import Run, Snapshot

OVERSLEPT_HEARTBEATS = 2


def _device_presence(c: Context, event: on.DevicePresence) -> None:
    c.news = c.fleet.presence(event.device, event.presence, c.now, retained=event.retained)
    training.invite_again(c, event.device)


def _device_heartbeat(c: Context, event: on.DeviceHeartbeat) -> None:
    busy = _is_busy(c, event.device)
    c.news = c.fleet.heartbeat(event.device, event.heartbeat, c.now) or busy != _is_busy(c, event.device)
    course.heard(c, event.device, event.heartbeat)


def _is_busy(c: Context, device: str) -> bool:
    known = c.fleet.devices.get(device)
    return c.run is not None and known is not None and is_busy(known, c.run)


def _tick(_c: Context, _event: on.Tick) -> None:
    """What time brings, the phases find."""


RULES: dict[type[on.Event], Callable[[Context, Any], None]] = {
    on.Restored: operating.restored,
    on.Connected: operating.connected,
    on.Disconnected: operating.disconnected,
    on.StartRun: operating.start,
    on.StopRun: operating.stop,
    on.PauseRun: operating.pause,
    on.ResumeRun: operating.resume,
    on.ExcludeDevice: operating.exclude,
    on.Prepared: operating.prepared,
    on.PrepareFailed: operating.prepare_failed,
    on.BlobsPublished: operating.blobs_published,
    on.DevicePresence: _device_presence,
    on.DeviceHeartbeat: _device_heartbeat,
    on.DeviceReport: evaluating.device_report,
    on.UpdateOffered: training.update_offered,
    on.UpdateReceived: training.update_received,
    on.UpdateRejected: training.update_rejected,
    on.AggregationFailed: training.aggregation_failed,
    on.Aggregated: evaluating.aggregated,
    on.Evaluated: evaluating.evaluated,
    on.EvaluationFailed: evaluating.evaluation_failed,
    on.DiskFilled: mishaps.disk_filled,
    on.DiskHasRoom: mishaps.disk_has_room,
    on.UpdateDamaged: mishaps.update_damaged,
    on.ModelDamaged: mishaps.model_damaged,
    on.Tick: _tick,
}

PHASES: dict[Phase, Callable[[Context], None]] = {
    Phase.WAITING: training.open_when_enough_fit,
    Phase.TRAINING: training.close_when_done,
    Phase.EVALUATING: evaluating.close_when_done,
}


class Coordinator:
    """Runs rounds: selects, invites, counts, closes."""

    def __init__(self, heartbeat_s: float, now: float = 0.0) -> None:
        self._c = Context(heartbeat_s, now)
        self._next_deadline: float | None = None

    @classmethod
    def restore(cls, snapshot: bytes, heartbeat_s: float, now: float) -> "Coordinator":
        """The coordinator that gave this snapshot; tell it `Restored` next."""
        core = cls(heartbeat_s, now)
        run = core._c.run = Snapshot.model_validate_json(snapshot).run
        if run is not None and run.paused is None and run.time_left_s is not None:
            core._c.deadline = now + run.time_left_s
            run.time_left_s = None
        if run is not None and run.round is not None:
            core._c.fleet.presume(list(run.round.cohort), now)
        return core

    def handle(self, event: on.Event, now: float) -> list[do.Effect]:
        """Take one event at time `now` (seconds, monotonic) and say what to do; Persist comes first."""
        c = self._c
        self._wake(now)
        c.records, c.effects, c.news = [], [], True
        try:
            RULES[type(event)](c, event)
        except IllegalEventError as illegal:
            return [do.Reject(str(illegal))]
        if c.news or (self._next_deadline is not None and now >= self._next_deadline):
            self._advance()
            self._next_deadline = self._find_next_deadline()
        persist = [do.Persist(tuple(c.records), self.snapshot())] if c.records else []
        return [*persist, *c.effects]

    def _advance(self) -> None:
        """Ask the phase whether its time has come, and then the one that follows from it."""
        c, asked = self._c, None
        while c.run is not None and c.run.paused is None and c.run.phase in PHASES and c.run.phase != asked:
            asked = c.run.phase
            PHASES[asked](c)

    def next_deadline(self) -> float | None:
        """When a `Tick` is due if nothing else happens before."""
        return self._next_deadline

    def snapshot(self) -> bytes:
        """Everything a successor needs, as JSON."""
        run = self._c.run
        if run is not None:
            run = run.model_copy(update={"time_left_s": self._c.seconds_left})
        return Snapshot(run=run).model_dump_json().encode()

    @property
    def run(self) -> Run | None:
        """The active run: to read, not to change."""
        return self._c.run

    @property
    def fleet(self) -> Fleet:
        """The devices: to read, not to change."""
        return self._c.fleet

    @property
    def due(self) -> Mapping[str, float]:
        """When updates of the open round are due, by device: as of the last look, where it can be told."""
        return self._c.due

    @property
    def phase(self) -> Phase:
        """Where the coordinator is."""
        return Phase.IDLE if self._c.run is None else self._c.run.phase

    @property
    def seconds_left(self) -> float | None:
        """Time left in the phase, as of the last event; None when it has no deadline."""
        return self._c.seconds_left

    def validate(self) -> None:
        """Raise AssertionError when an invariant is broken; tests call it after every event."""
        c, run = self._c, self._c.run
        if run is None:
            assert c.deadline is None
            return
        in_round = run.phase in {Phase.TRAINING, Phase.AGGREGATING, Phase.EVALUATING}
        assert (run.round is not None) == in_round
        assert (run.model is not None) == (run.phase is not Phase.PREPARING)
        assert run.completed <= min(run.settings.rounds, run.last_round)
        timed = run.phase in {Phase.TRAINING, Phase.EVALUATING}
        assert timed == ((c.deadline if run.paused is None else run.time_left_s) is not None)
        if run.round is not None:
            assert run.round.number == run.last_round
            assert 1 <= run.round.quorum <= run.round.target <= len(run.round.cohort)
            for part in run.round.cohort.values():
                times = [step.at_s for step in part.steps]
                assert len(times) <= course.MAX_STEPS
                assert times == sorted(times)
                assert not times or times[-1] <= round(run.round.open_s, 3)

    def _wake(self, now: float) -> None:
        """When our own loop was late, nobody's silence counts: what they sent is still unread."""
        due, patience, run = self._next_deadline, OVERSLEPT_HEARTBEATS * self._c.fleet.heartbeat_s, self.run
        awake_at, self._c.now = self._c.now, now
        if run is not None and run.round is not None and run.paused is None:
            run.round.open_s += now - awake_at
        if due is not None and now > due + patience:
            self._c.fleet.overslept(awake_at, now)
            self._c.due.clear()

    def _find_next_deadline(self) -> float | None:
        """The phase's end, or before it the next loss, which heartbeats may put off, or look at the pace."""
        c = self._c
        if c.deadline is None:
            return None
        times = [c.deadline, c.fleet.next_loss(c.awaited(), c.now)]
        if c.run is not None and c.run.phase is Phase.TRAINING:
            times.append(stragglers.next_look(c))
        return min(time for time in times if time is not None)
