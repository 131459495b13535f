"""Bugs, each planted into the simulated system where it would really be."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from aggregator.coordinator import core, late, training
from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.context import Context
from aggregator.coordinator.fleet import Fleet
from aggregator.coordinator.phases import Phase
from aggregator.coordinator.state import Carried, Run
from aggregator.deeds import Deeds
from aggregator.ledger import Ledger
from broker.messages import Presence, Receipt
from deploy.simulator.aggregator import Aggregator
from deploy.simulator.disk import SimulatedStore
from edge_agent import context, lifecycle, offering
from edge_agent.snapshot import Snapshot
from host.errors import NoRoomError

Plant = Callable[[pytest.MonkeyPatch], None]


def receipt_before_persist(patch: pytest.MonkeyPatch) -> None:
    """The aggregator's shell answers devices before the ledger knows."""

    def is_no_receipt(effect: do.Effect) -> bool:
        return not (isinstance(effect, do.Send) and isinstance(effect.message, Receipt))

    def tell(self: Aggregator, event: on.Event) -> None:
        effects = self.core.handle(event, self._clock.now)
        for effect in sorted(effects, key=is_no_receipt):
            self._deeds.carry_out([effect])

    patch.setattr(Aggregator, "_tell", tell)


def duplicate_counted(patch: pytest.MonkeyPatch) -> None:
    """An update that comes again, since its receipt got lost, is taken again."""

    def admit(c: Context, event: on.UpdateOffered) -> None:
        run = c.run
        if run is None or run.round is None or run.phase is not Phase.TRAINING:
            c.effects.append(do.AnswerFromLedger(event.device, event.offer))
        else:
            c.effects.append(do.Admit(event.device, event.offer))

    patch.setitem(core.RULES, on.UpdateOffered, admit)
    patch.setattr(training, "_refuse_unless_wanted", lambda _part: None)


def stale_will_accepted(patch: pytest.MonkeyPatch) -> None:
    """A death counts whichever connection it is of."""
    presence_of = Fleet.presence

    def presence(self: Fleet, name: str, presence: Presence, now: float, *, retained: bool) -> bool:
        known = self.devices.get(name)
        if known is not None and not presence.online:
            presence = presence.model_copy(update={"connection": known.presence.connection})
        return presence_of(self, name, presence, now, retained=retained)

    patch.setattr(Fleet, "presence", presence)


def clock_believed(patch: pytest.MonkeyPatch) -> None:
    """The aggregator believes its clock, which is wrong after some restarts."""
    patch.setattr(Ledger, "next_session", lambda _self, unix_s: int(unix_s))


def agent_forgets_what_it_trained(patch: pytest.MonkeyPatch) -> None:
    """The agent's snapshot is only sometimes written."""
    save = SimulatedStore.save

    def forgetful(self: SimulatedStore, snapshot: Snapshot) -> None:
        if snapshot.sequence % 2:
            save(self, snapshot)

    patch.setattr(SimulatedStore, "save", forgetful)


def update_deleted_unanswered(patch: pytest.MonkeyPatch) -> None:
    """The agent takes any receipt for its own, whatever round it is of."""

    def receipt(c: context.Context, _event: Receipt) -> None:
        if c.kept.pending is not None:
            offering.let_go(c)

    patch.setitem(lifecycle.RULES, Receipt, receipt)


def restart_forgets_to_aggregate(patch: pytest.MonkeyPatch) -> None:
    """A successor waits for what only its predecessor had asked for."""
    patch.setitem(core.RULES, on.Restored, lambda _c, _event: None)


def late_update_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A late update is accepted, and in no model."""
    patch.setattr(late, "_carry", lambda _c, _run, _carried: None)


def late_update_counted_twice(patch: pytest.MonkeyPatch) -> None:
    """What a model took in is there for the next one, too."""
    close = training._close

    def close_and_keep(c: Context, reason: str) -> None:
        run = c.active_run()
        carried = [*run.carried]
        close(c, reason)
        run.carried += carried

    patch.setattr(training, "_close", close_and_keep)


def late_update_counts_in_full(patch: pytest.MonkeyPatch) -> None:
    """A late update weighs as much as one in time."""
    weighed = late.weighed

    def in_full(run: Run, carried: list[Carried]) -> tuple[do.CarriedUpdate, ...]:
        return tuple(replace(one, weight=1.0) for one in weighed(run, carried))

    patch.setattr(late, "weighed", in_full)


def full_disk_ignored(patch: pytest.MonkeyPatch) -> None:
    """What could not be written is said all the same."""

    def carry_out(self: Deeds, effects: Sequence[do.Effect]) -> None:
        for effect in effects:
            with contextlib.suppress(NoRoomError):
                self._table[type(effect)](effect)

    patch.setattr(Deeds, "carry_out", carry_out)


ALL: tuple[Plant, ...] = (
    receipt_before_persist,
    duplicate_counted,
    stale_will_accepted,
    clock_believed,
    agent_forgets_what_it_trained,
    update_deleted_unanswered,
    restart_forgets_to_aggregate,
    late_update_forgotten,
    late_update_counted_twice,
    late_update_counts_in_full,
    full_disk_ignored,
)
