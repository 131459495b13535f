"""What befalls the aggregator's disk: no room, damaged updates, a damaged model."""

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator import late, training
from aggregator.coordinator.context import Context, refuse_unless
from aggregator.coordinator.phases import Phase
from aggregator.coordinator.state import Run
from aggregator.records import UpdateLost


def disk_filled(c: Context, event: on.DiskFilled) -> None:
    """The run pauses until there is room; what an operator paused stays paused by the operator."""
    run = c.active_run()
    refuse_unless(run.paused is None, f"run {run.run} is paused already")
    c.stop_clock(run, event.reason)
    run.waits_for_disk = True


def disk_has_room(c: Context, _: on.DiskHasRoom) -> None:
    """What paused for the disk goes on by itself."""
    run = c.active_run()
    refuse_unless(run.waits_for_disk, f"run {run.run} does not wait for the disk")
    go_on(c, run)


def go_on(c: Context, run: Run) -> None:
    """Let a paused run go on; what it needs may not be on the broker, if that was why it paused."""
    run.waits_for_disk = False
    c.start_clock(run)
    if run.model is not None and not c.published:
        c.publish(run, run.model)


def update_damaged(c: Context, event: on.UpdateDamaged) -> None:
    """An accepted update counts no more; while the round takes updates its device is asked again.

    If the device still has it, for want of our receipt, its next offer is taken; else it trains once more,
    to the same update if its data is the same: all chance follows from seed, round and device.
    """
    if late.damaged(c, event):
        return
    run, current, _ = c.open_round()
    part = current.cohort.get(event.device) if event.round == current.number else None
    known = part is not None and part.accepted == event.digest
    refuse_unless(known, f"no update {event.digest[:16]} of {event.device} counts in round {event.round}")
    assert part is not None
    part.accepted, part.examples, part.size, part.again = None, 0, 0, True
    part.training, part.validation, part.seconds = {}, {}, 0.0
    c.records.append(UpdateLost(run.run, current.number, event.device, event.digest))
    sound = len(current.accepted)
    if run.phase is Phase.AGGREGATING and sound < current.quorum:
        late.keep_accepted(c)
        training.abandon(c, f"only {sound} of at least {current.quorum} updates are undamaged")


def model_damaged(c: Context, event: on.ModelDamaged) -> None:
    """Go on from an earlier theta; without one the run pauses, for somebody has to restore a file."""
    run = c.active_run()
    refuse_unless(run.model is not None, f"run {run.run} has no model yet")
    assert run.model is not None
    if event.fallback is not None:
        run.model.theta = event.fallback
        # The run is to have as many rounds in its model as it was asked for.
        run.completed = max(0, run.completed - event.lost_rounds)
        late.forget(c, run, event.reason)
    if run.round is not None and event.fallback is not None:
        training.abandon(c, event.reason)
    elif event.fallback is not None:
        c.effects.append(do.WriteHistory(run.run))
    elif run.paused is None:
        c.stop_clock(run, event.reason)
    c.published = False
