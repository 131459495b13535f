"""What a strategy is: vector arithmetic over theta that turns a round's updates into the next model."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from broker.layout import Layout, Theta
from broker.names import Metrics

# 32768 elements of float64 are 256 KiB: they stay in the second-level cache of a small processor.
BLOCK = 1 << 15

State: TypeAlias = dict[str, NDArray[Any]]


class Strategy(Protocol):
    """Computes a round's new theta; users add their own by an entry point in the group `midge.strategies`.

    For each round the aggregator makes a new instance, sets `state` to what the last completed round left,
    and calls `begin` once, `add` once for each update in the order of device names, and `finish` once.

    A strategy MUST give the same bits for the same calls: no clock, no unseeded random numbers.
    It MUST NOT write to an array that it is given, and MUST NOT keep an update after `add` returns: it is
    a memory map of a file, and may be larger than the memory. It SHOULD work in blocks (see `blocks`).
    """

    # What the strategy remembers from round to round, as named arrays without objects; empty to begin with.
    # It is stored beside theta after `finish`; an abandoned round leaves it as it was.
    state: State

    def begin(self, theta: Theta, layout: Layout) -> None:
        """Start a round from theta, float32[P]; `layout` says which part of it is trainable."""

    def add(self, update: Mapping[str, Theta], weight: float, metrics: Metrics) -> None:
        """Take in one update: `update["delta"]` is float32[P], local theta minus the round's theta.

        `weight` is the number of examples it was trained on, at least 1; `metrics` are those of its training.
        """

    def finish(self) -> Theta:
        """Return the new theta, float32[P]; without any `add` it MUST equal the one that `begin` got."""


def blocks(length: int) -> Iterator[slice]:
    """Cut a vector of `length` elements into pieces that fit the processor's cache."""
    return (slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK))
