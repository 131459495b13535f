"""What chaos does and when: all of it follows from a seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.weather import Slowness

MEAN_GAP_S = 0.6
LONGEST_GAP_S = 4.0
LONGEST_DOWN_S = 1.5
LONGEST_SLOW_S = 4.0
KILL_SHARE = 0.7
SAVE_SHARE = 0.05


class Victim(StrEnum):
    """What is killed with -9."""

    AGENT = "agent"
    TRAINER = "trainer"
    BROKER = "broker"
    AGGREGATOR = "aggregator"


class Ill(StrEnum):
    """What happens to a link."""

    SLOW = "slow"
    CUT = "cut"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Kill:
    """End a process, an agent's or its trainer's by `device`, and start it again after `down_s`."""

    victim: Victim
    device: str
    down_s: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """Do an ill to the link of a user, a slow one for `seconds`."""

    ill: Ill
    user: str
    slowness: Slowness
    seconds: float


@dataclass(frozen=True, slots=True)
class Save:
    """Have the broker write its database now, which is what it comes back with after a kill."""


Deed = Kill | Trouble | Save


def schedule(seed: int, devices: Sequence[str]) -> Iterator[tuple[float, Deed]]:
    """Give deeds without end, each with the pause before it in seconds."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    while True:
        gap = min(chance.expovariate(1 / MEAN_GAP_S), LONGEST_GAP_S)
        kind = chance.random()
        if kind < KILL_SHARE:
            victim = chance.choices(list(Victim), (35, 30, 15, 20))[0]
            yield gap, Kill(victim, chance.choice(devices), chance.uniform(0, LONGEST_DOWN_S))
        elif kind < KILL_SHARE + SAVE_SHARE:
            yield gap, Save()
        else:
            slowness = Slowness(chance.uniform(0, 0.3), chance.choice((4e3, 16e3, 64e3)))
            yield (
                gap,
                Trouble(
                    chance.choice(list(Ill)),
                    chance.choice((*devices, "aggregator")),
                    slowness,
                    chance.uniform(0.5, LONGEST_SLOW_S),
                ),
            )
