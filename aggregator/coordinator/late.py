"""Updates that come after their round: discarded, or carried into the next round with less weight.

The examples of a carried update count as in FedBuff (https://arxiv.org/abs/2106.06639): divided by the square
root of 1 + staleness, which is the number of models that were made since it was trained. Only the round that
closed last takes late updates. Each counts once: it is in the snapshot until a new model has it.
"""

import math

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.cohort import MAX_COHORT
from aggregator.coordinator.context import Context
from aggregator.coordinator.phases import Decision
from aggregator.coordinator.state import Carried, Late, Run
from aggregator.coordinator.stragglers import largest_update
from aggregator.records import Decided, UpdateLost
from broker.messages import Offer, RejectReason

# Each costs as much disk as an update; more than this come only from rounds that are abandoned one by one.
MAX_CARRIED = 2 * MAX_COHORT


def close(c: Context) -> None:
    """The open round takes no more updates, or only late ones; the round before it takes none any more."""
    run, current, _ = c.open_round()
    if run.late is not None:
        c.effects.append(do.DropUploads(run.run, run.late.round))
        run.late = None
    if not run.carries:
        c.effects.append(do.DropUploads(run.run, current.number))
        return
    run.late = Late(round=current.number, models=run.completed, owing=sorted(current.outstanding))


def keep_accepted(c: Context) -> None:
    """An abandoned round made no model: what it accepted counts in the next one."""
    run, current, _ = c.open_round()
    for name in current.accepted if run.carries else ():
        part = current.cohort[name]
        assert part.accepted is not None
        one = Carried(
            device=name,
            round=current.number,
            models=run.completed,
            examples=part.examples,
            digest=part.accepted,
            size=part.size,
        )
        _carry(c, run, one)


def damaged(c: Context, event: on.UpdateDamaged) -> bool:
    """A carried update counts no more, its device deleted it long ago; whether it was one."""
    run = c.active_run()
    for carried in (run.carried, run.round.carried if run.round is not None else []):
        lost = [one for one in carried if (one.round, one.device) == (event.round, event.device)]
        if lost:
            carried[:] = [one for one in carried if one not in lost]
            c.records.append(UpdateLost(run.run, event.round, event.device, event.digest))
            c.drop_carried(run, lost, "damaged on the aggregator's disk")
            return True
    return False


def forget(c: Context, run: Run, reason: str) -> None:
    """What was trained from a model that is lost fits no other, and its staleness cannot be told."""
    if run.late is not None:
        c.effects.append(do.DropUploads(run.run, run.late.round))
        run.late = None
    if run.round is not None:
        c.drop_carried(run, run.round.carried, reason)
        run.round.carried = []
    c.drop_carried(run, run.carried, reason)
    run.carried = []


def wants(c: Context, device: str, offer: Offer) -> bool:
    """Whether this is the late update of a device that owes one."""
    run = c.run
    if run is None or run.late is None or len(run.carried) >= MAX_CARRIED:
        return False
    return (offer.run, offer.round) == (run.run, run.late.round) and device in run.late.owing


def offered(c: Context, device: str, offer: Offer) -> None:
    """Let a late update come."""
    model = c.active_run().model
    assert model is not None
    if offer.update.size > largest_update(model):
        rejected(c, device, offer, RejectReason.TOO_LARGE)
    else:
        c.effects.append(do.Admit(device, offer))


def received(c: Context, device: str, offer: Offer) -> None:
    """A late update lies in the spool: it counts in the next round."""
    run, late = _settled(c, device)
    c.accept(device, offer)
    one = Carried(
        device=device,
        round=late.round,
        models=late.models,
        examples=offer.examples,
        digest=offer.update.digest,
        size=offer.update.size,
    )
    _carry(c, run, one)


def rejected(c: Context, device: str, offer: Offer, reason: RejectReason) -> None:
    """A late update cannot be used."""
    _settled(c, device)
    c.reject(device, offer, reason)


def weighed(run: Run, carried: list[Carried]) -> tuple[do.CarriedUpdate, ...]:
    """Each with what a new model is to make of its examples."""
    return tuple(
        do.CarriedUpdate(one.device, one.round, one.examples, 1 / math.sqrt(1 + run.completed - one.models))
        for one in carried
    )


def _settled(c: Context, device: str) -> tuple[Run, Late]:
    run = c.active_run()
    assert run.late is not None
    run.late.owing.remove(device)
    return run, run.late


def _carry(c: Context, run: Run, carried: Carried) -> None:
    run.carried.append(carried)
    reason = "its update counts in the next round"
    c.records.append(Decided(run.run, carried.round, carried.device, Decision.CARRIES, reason))
