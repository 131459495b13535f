"""How a device spent a round, from when it was first heard in each state; pure."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple


class Stretch(NamedTuple):
    """Time in one state, in seconds since the round opened."""

    state: str
    begin_s: float
    seconds: float


def stretches(steps: Iterable[tuple[str, float]], ends_s: float) -> Iterator[Stretch]:
    """Each (state, seconds since the round opened) until the next, the last until the round's end."""
    found = sorted((step for step in steps if step[1] <= ends_s), key=lambda step: step[1])
    for (state, at_s), (_, following_s) in pairwise([*found, ("", ends_s)]):
        if following_s > at_s:
            yield Stretch(state, at_s, following_s - at_s)
