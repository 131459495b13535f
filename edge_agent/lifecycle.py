"""The agent's pure core: events in, effects out, without socket, file, clock or thread.

`handle` calls the one rule for the type of the event. A rule first refuses what is illegal, and only then
changes anything. Afterwards the state is asked what it is time for. What becomes of the effects comes back
as events, failures included.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from broker.messages import (
    AgentState,
    Announcement,
    Assignment,
    Federation,
    Grant,
    Heartbeat,
    Invite,
    Offer,
    Presence,
    Receipt,
)
from broker.topics import HEARTBEAT
from edge_agent import effects as do
from edge_agent import events as on
from edge_agent import hearing, offering, working
from edge_agent.context import Context, IllegalEventError
from edge_agent.snapshot import Snapshot
from edge_agent.transitions import FETCHING, IDLE, UPLOADING


def _vitals_measured(c: Context, event: on.VitalsMeasured) -> None:
    c.pulse.vitals = event


def _timer_fired(_c: Context, _event: on.TimerFired) -> None:
    """What it is time for, the states and the pulse find."""


RULES: dict[type[on.Event], Callable[[Context, Any], None]] = {
    on.Connected: hearing.connected,
    on.Disconnected: hearing.disconnected,
    on.PresenceSeen: hearing.presence_seen,
    Federation: hearing.federation,
    Announcement: hearing.announcement,
    Invite: hearing.invite,
    on.Fetched: working.fetched,
    on.FetchFailed: working.fetch_failed,
    on.TrainingProgressed: working.training_progressed,
    on.SpeedMeasured: working.speed_measured,
    on.Evaluated: working.evaluated,
    on.TrainingFailed: working.training_failed,
    on.TrainerDied: working.trainer_died,
    on.Trained: offering.trained,
    Grant: offering.grant,
    Receipt: offering.receipt,
    on.UpdateLost: offering.update_lost,
    on.VitalsMeasured: _vitals_measured,
    on.AvailabilityJudged: working.availability_judged,
    on.TimerFired: _timer_fired,
}

STATES: dict[AgentState, Callable[[Context], None]] = {
    IDLE: working.begin_what_is_asked,
    FETCHING: working.fetch_when_due,
    UPLOADING: offering.offer_when_due,
}


class Lifecycle:
    """One device's part in the rounds of a federation; `birth` is what a birth says of this device."""

    def __init__(
        self, device: str, birth: Presence, random: Random, snapshot: Snapshot | None = None
    ) -> None:
        self._c = Context(device, birth, random, snapshot or Snapshot())

    def handle(self, event: on.Event, now: float) -> list[do.Effect]:
        """Take one event at time `now` (seconds, monotonic) and say what to do; Persist comes first."""
        c = self._c
        c.now, before = now, c.state
        try:
            RULES[type(event)](c, event)
        except IllegalEventError as illegal:
            return [do.Reject(str(illegal), illegal.warning)]
        c.check_in_when_due()
        if c.state in STATES:
            STATES[c.state](c)
        if c.pulse.is_due(now) or (c.online and c.state is not before):
            _beat(c)
        return c.take()

    def next_deadline(self) -> float | None:
        """When a `TimerFired` is due if nothing else happens before."""
        due = (self._c.pulse.next_at, self._c.offer_at, self._c.fetch_at, self._c.check_in_at)
        return min((time for time in due if time is not None), default=None)

    def snapshot(self) -> Snapshot:
        """What a restarted agent is to be given."""
        return self._c.kept

    @property
    def state(self) -> AgentState:
        """What the agent is doing."""
        return self._c.state

    @property
    def doing(self) -> tuple[str, int] | None:
        """The run and the round that it works for or has an update of."""
        doing = _doing(self._c)
        return None if doing is None else (doing.run, doing.round)

    def validate(self) -> None:
        """Raise AssertionError when an invariant is broken; tests call it after every event."""
        self._c.validate()


def _doing(c: Context) -> Assignment | Offer | None:
    return c.work.assignment if c.work else c.kept.pending


def _beat(c: Context) -> None:
    connection, work, vitals = c.presence.connection, c.work, c.pulse.vitals
    assert connection is not None
    doing = _doing(c)
    heartbeat = Heartbeat(
        connection=connection,
        state=c.state,
        run=doing.run if doing else None,
        round=doing.round if doing else None,
        progress=work.progress if work else float(c.state is UPLOADING),
        examples_per_s=work.examples_per_s if work else 0.0,
        memory_bytes=vitals.memory_bytes,
        temperature_c=vitals.temperature_c,
        battery=vitals.battery,
        bytes_up=vitals.bytes_up,
        bytes_down=vitals.bytes_down,
    )
    c.publish(HEARTBEAT, heartbeat)
    c.pulse.has_beaten(c.now)
