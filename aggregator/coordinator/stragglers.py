"""Whom the open round waits for: those who live and whose update is due in time.

A participant is lost while it is silent, and straggles while its update is due after the horizon. That is the
deadline and its grace; with the quorum there and a `straggler_factor` it comes sooner. Both can be taken back
until the round closes, and the update of either counts if it comes.
"""

from aggregator.coordinator.context import Context
from aggregator.coordinator.pace import Work
from aggregator.coordinator.phases import Decision
from aggregator.coordinator.state import Model, Round, Run
from aggregator.records import Decided
from broker.messages import Presence
from broker.sealing import sealed_size

# An update is its vectors and a short header.
UPDATE_OVERHEAD_BYTES = 8192
# Who straggles has to be this much ahead of the horizon to be waited for again.
CAUGHT_UP = 0.8


def expected(c: Context, awaited: set[str]) -> set[str]:
    """Those of the awaited who are worth it now; notes whom that no longer, or again, holds for."""
    _, current, _ = c.open_round()
    if c.now >= c.look_at or c.overdue:
        look(c, awaited)
    _note_losses(c, awaited)
    horizon = horizon_of(c)
    for name in sorted(awaited & c.due.keys()):
        part, due = current.cohort[name], max(c.due[name], c.now)
        if not part.straggles and due >= horizon:
            part.straggles = True
            decided(c, Decision.STRAGGLES, f"due in {due - c.now:.0f} s, at most {_left(c):.0f} s left", name)
        elif part.straggles and due - c.now < CAUGHT_UP * (horizon - c.now):
            part.straggles = False
            decided(c, Decision.CATCHES_UP, f"due in {due - c.now:.0f} s, {_left(c):.0f} s left", name)
    return {name for name in awaited if not current.cohort[name].straggles}


def look(c: Context, awaited: set[str]) -> None:
    """Work out when each participant's update is due; once a heartbeat is often enough."""
    run, current, model = c.open_round()
    c.look_at = c.now + c.fleet.heartbeat_s
    c.due.clear()
    for name in () if c.fleet.deaf else awaited:
        device = c.fleet.devices[name]
        left = device.pace.seconds_left(_work(run, current, model, device.presence), c.now)
        if left is not None:
            c.due[name] = c.now + left


def horizon_of(c: Context) -> float:
    """Until when the round may wait for anybody: its deadline with grace, or less with the quorum there."""
    run, current, _ = c.open_round()
    assert c.deadline is not None
    factor, grace_s = run.settings.straggler_factor, run.settings.grace_s
    if factor is None or len(current.accepted) < current.quorum:
        return c.deadline if current.grace_given else c.deadline + grace_s
    slowest_s = max(part.reported_s for part in current.cohort.values())
    patience_s = max(slowest_s * factor, slowest_s + grace_s)
    return min(c.deadline, c.deadline - current.deadline_s + patience_s)


def next_look(c: Context) -> float:
    """When time alone may change whom the round waits for."""
    horizon = horizon_of(c)
    return min(c.look_at, horizon) if horizon > c.now else c.look_at


def give_grace(c: Context) -> bool:
    """Put the deadline off, once, for those who are nearly done; whether that is of use."""
    run, current, _ = c.open_round()
    end = c.now + run.settings.grace_s
    nearly = sorted(name for name in c.awaited() & c.due.keys() if max(c.due[name], c.now) < end)
    if current.grace_given or not nearly or len(current.accepted) + len(nearly) < current.quorum:
        return False
    current.grace_given = True
    current.deadline_s += run.settings.grace_s
    c.set_deadline(run, run.settings.grace_s)
    decided(c, Decision.GRACE, f"{run.settings.grace_s:.0f} s more for {', '.join(nearly)}")
    c.announce()
    return True


def decided(c: Context, decision: Decision, reason: str, device: str | None = None) -> None:
    """Have a decision about the open round remembered."""
    run, current, _ = c.open_round()
    c.records.append(Decided(run.run, current.number, device, decision, reason))
    if device is None:
        current.note = f"{current.note}; {reason}" if current.note else reason
    else:
        current.cohort[device].note = f"{decision}: {reason}"


def _note_losses(c: Context, awaited: set[str]) -> None:
    _, current, _ = c.open_round()
    lost = set(current.outstanding) - awaited
    for name in sorted(lost - c.lost):
        decided(c, Decision.LOST, c.fleet.why_lost(name, c.now), name)
    for name in sorted(awaited & c.lost):
        decided(c, Decision.BACK, "heard again", name)
    c.lost = lost


def _left(c: Context) -> float:
    return max(0.0, horizon_of(c) - c.now)


def _work(run: Run, current: Round, model: Model, birth: Presence) -> Work:
    return Work(
        run=run.run,
        round=current.number,
        download_bytes=sum(blob.size for blob in model.blobs),
        upload_bytes=largest_update(model),
        training_s=_training_s(run, model, birth),
    )


def _training_s(run: Run, model: Model, birth: Presence) -> float | None:
    """How long a device trains by the speed that it measured with this program before."""
    speed, settings = birth.speeds.get(model.program.digest, 0.0), run.settings
    if settings.steps is not None:
        examples = float(settings.steps * settings.batch_size)
    else:
        examples = birth.examples * (1 - settings.validation_fraction) * (settings.epochs or 1)
    return examples / speed if speed > 0 and examples > 0 else None


def largest_update(model: Model) -> int:
    """What the update of a model may take, in bytes, sealed or not."""
    return sealed_size(4 * model.parameters + UPDATE_OVERHEAD_BYTES)
