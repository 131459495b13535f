"""What a run learns from its rounds: how long updates take, how many participants drop out, and who does.

The more devices are known to drop out, the more are invited; Google's fleet saw 6 to 10 % of them do so
(Bonawitz et al., "Towards federated learning at scale", https://arxiv.org/abs/1902.01046).
"""

import math

from aggregator.coordinator.context import Context
from aggregator.coordinator.phases import Decision
from aggregator.coordinator.state import BackOff, Experience, Round, Run
from aggregator.coordinator.stragglers import decided
from aggregator.run_settings import RunSettings

# The deadline is the time in which nine of ten updates came, and half as much again.
PART_IN_TIME, MARGIN = 0.9, 1.5
# Until something was measured, one in ten drops out; this belief counts as much as so many participants.
USUAL_DROP_OUT, BELIEF = 0.1, 10.0
FORGETTING = 0.9
# One failure may happen to anybody; from the second in a row on, a device sits out 1, 2, 4, ... rounds.
TOLERATED_FAILURES, MOST_ROUNDS_OUT = 1, 16
FORGIVEN_AFTER_ROUNDS = 32


def learn(c: Context, *, quorum_met: bool) -> None:
    """Learn from a round that takes no more updates; where the quorum is not met, no device is to blame."""
    run, current, _ = c.open_round()
    failed = {name for name, part in current.cohort.items() if _failed(c, name) or part.rejected is not None}
    declined = sum(part.declined is not None for part in current.cohort.values())
    _learn_times(run.settings, current, run.experience, missing=len(c.awaited()))
    _learn_drop_out(run.experience, len(failed) + declined, len(current.accepted))
    if quorum_met:
        _learn_conduct(c, run, current, failed)


def deadline_s(run: Run) -> float:
    """The time for the next round's training and upload."""
    learnt_s = run.experience.deadline_s
    return run.settings.deadline_s if learnt_s is None or run.settings.min_deadline_s is None else learnt_s


def drop_out(run: Run) -> float:
    """The part of the participants that will not deliver, by the rounds so far."""
    known = run.experience
    return (known.dropped + USUAL_DROP_OUT * BELIEF) / (known.asked + BELIEF)


def _failed(c: Context, name: str) -> bool:
    """Whether an update was due from this participant and did not come."""
    _, current, _ = c.open_round()
    part = current.cohort[name]
    return part.outstanding and (part.straggles or c.overdue or not c.fleet.alive(name, c.now))


def _learn_times(settings: RunSettings, current: Round, known: Experience, missing: int) -> None:
    times = sorted(part.reported_s for part in current.cohort.values() if part.accepted)
    if times:
        known.typical_s = times[len(times) // 2]
    if settings.min_deadline_s is None:
        return
    # Who was not needed may have been slow or not: nobody waited to see.
    awaited = 0 if len(times) >= current.target else missing
    in_time = math.ceil(PART_IN_TIME * (len(times) + awaited))
    measured = 0 < in_time <= len(times)
    wanted_s = MARGIN * times[in_time - 1] if measured else 2 * current.deadline_s
    before_s = settings.deadline_s if known.deadline_s is None else known.deadline_s
    if len(times) < current.quorum:
        # Those who died may be the slow ones: what the others took does not show that less time will do.
        wanted_s = max(wanted_s, before_s)
    # Up at once and down by halves: a round that is abandoned costs more than one that waits.
    smoothed_s = max(wanted_s, (before_s + wanted_s) / 2)
    known.deadline_s = min(max(smoothed_s, settings.min_deadline_s), settings.deadline_s)


def _learn_drop_out(known: Experience, dropped: int, delivered: int) -> None:
    known.dropped = FORGETTING * known.dropped + dropped
    known.asked = FORGETTING * known.asked + dropped + delivered


def _learn_conduct(c: Context, run: Run, current: Round, failed: set[str]) -> None:
    outs, number = run.experience.back_offs, current.number
    for name in current.accepted:
        outs.pop(name, None)
    for name in [name for name, out in outs.items() if number - out.round > FORGIVEN_AFTER_ROUNDS]:
        del outs[name]
    for name in sorted(failed):
        failures = 1 + (outs[name].failures if name in outs else 0)
        rounds = min(1 << min(failures, 32) >> (TOLERATED_FAILURES + 1), MOST_ROUNDS_OUT)
        outs[name] = BackOff(failures=failures, round=number, until=number + rounds + 1)
        if rounds:
            decided(c, Decision.BACKS_OFF, outs[name].why, name)
