"""Whether a device has what a task needs: the aggregator selects by it, and the device looks for itself."""

import math
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple

from broker.contract import Needs
from broker.messages import Presence


class Obstacle(StrEnum):
    """What keeps a device out of a run's rounds."""

    LOST = "lost"
    DISPLACED = "displaced"
    RUNTIME = "runtime"
    EXAMPLES = "examples"
    MEMORY = "memory"
    CORES = "cores"
    MACHINE = "machine"
    TAGS = "tags"
    SPEED = "speed"
    UNAVAILABLE = "unavailable"
    DECLINED = "declined"
    BACKS_OFF = "backs-off"
    BUSY = "busy"


class Misfit(NamedTuple):
    """Why a device does not fit: `why` is a sentence with figures, for people."""

    obstacle: Obstacle
    why: str


def find_misfit(birth: Presence, needs: Needs, program: str) -> Misfit | None:
    """Find what this device lacks for a task whose program has this digest; None when it lacks nothing.

    A device that has not trained with the program yet is taken to be fast enough.
    """
    return next(_misfits(birth, needs, birth.speeds.get(program, math.inf)), None)


def _misfits(birth: Presence, needs: Needs, speed: float) -> Iterator[Misfit]:
    if birth.examples < needs.examples:
        has, needed = f"{birth.examples:,} examples", f"the task needs {needs.examples:,}"
        yield Misfit(Obstacle.EXAMPLES, f"holds {has}, {needed}" if birth.examples else "holds no examples")
    if birth.memory_bytes < needs.memory_bytes:
        needed, has = _megabytes(needs.memory_bytes, math.ceil), _megabytes(birth.memory_bytes, math.floor)
        yield Misfit(Obstacle.MEMORY, f"needs {needed} of memory, has {has}")
    if birth.cores < needs.cores:
        yield Misfit(Obstacle.CORES, f"needs {needs.cores} cores, has {birth.cores}")
    if needs.machine not in birth.machine:
        yield Misfit(Obstacle.MACHINE, f"needs a machine with {needs.machine!r}, is {birth.machine!r}")
    if missing := [tag for tag in needs.tags if tag not in birth.tags]:
        yield Misfit(Obstacle.TAGS, f"lacks tag {', '.join(missing)}")
    if speed < needs.examples_per_s:
        has = f"{math.floor(speed * 10) / 10:,g}"
        yield Misfit(Obstacle.SPEED, f"trains {has} examples/s, the task needs {needs.examples_per_s:,g}")


def _megabytes(size: int, rounding: Callable[[float], int]) -> str:
    """Rounded so that what is too little never looks like enough."""
    return f"{rounding(size / 1_000_000):,} MB"
