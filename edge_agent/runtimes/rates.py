"""The learning rate of each local step: a pure function of what the announcement says."""

import math

from broker.messages import RateSchedule


def rate_of_step(base: float, schedule: RateSchedule | None, step: int, steps: int) -> float:
    """The rate of one step, from 0, of the `steps` of this training: the one at the step's middle.

    It rises in a line from 0 to `base` over the warm-up, and goes down from there to `base * final_rate` at
    the end of the run, in a line or along half a cosine (Loshchilov and Hutter 2017,
    https://arxiv.org/abs/1608.03983). Without a schedule it is `base`.
    """
    if schedule is None:
        return base
    # In rounds since the run's beginning; the middle keeps the very first step from a rate of 0.
    position = schedule.begin + (schedule.end - schedule.begin) * (step + 0.5) / steps
    if position < schedule.warmup_rounds:
        return base * position / schedule.warmup_rounds
    if schedule.shape == "constant":
        return base
    way = (position - schedule.warmup_rounds) / (schedule.rounds - schedule.warmup_rounds)
    left = (1 + math.cos(math.pi * way)) / 2 if schedule.shape == "cosine" else 1 - way
    return base * (schedule.final_rate + (1 - schedule.final_rate) * left)
