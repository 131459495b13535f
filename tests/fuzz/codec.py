"""`make fuzz-codec`: damaged messages, updates, programs, announcements and topics, on every core.

Whatever comes is read or is a WireError, in bounded memory. Fails when anything else is raised, when what was
read is not read alike from its own encoding, or when a process grows by more than `MAX_GROWTH_BYTES` in all.
Inputs come from the target's name and their number alone: `--only NAME --first N --inputs 1` is one again.
"""

import argparse
import math
import os
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from random import Random
from zlib import crc32

from tests.fuzz.targets import Target, targets

IN_A_ROW = 2000
# What is read at most is 256 KiB, but for programs (8 MiB); 300 kB are tried.
MAX_GROWTH_BYTES = 64 << 20
MAX_SHOWN = 400


@dataclass
class Tally:
    """What became of a target's inputs; its growth is how far it drove the peak of its process."""

    inputs: int = 0
    taken: int = 0
    input_bytes: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    growth_bytes: int = 0
    # By what was raised where: the first of its kind tells enough.
    faults: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Take in another share of the same target, or of them all."""
        self.inputs += other.inputs
        self.taken += other.taken
        self.input_bytes += other.input_bytes
        self.seconds += other.seconds
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.growth_bytes = max(self.growth_bytes, other.growth_bytes)
        self.faults = other.faults | self.faults

    def line(self, name: str) -> str:
        """For the table."""
        return (
            f"{name:20} {self.inputs:10,} {self.taken:10,} {self.input_bytes / 1e6:9.0f} "
            f"{self.inputs / self.seconds:9,.0f} {1000 * self.slowest_s:8.1f} {self.growth_bytes / 1e6:7.1f}"
        )


HEADINGS = f"{'':20} {'inputs':>10} {'read':>10} {'MB':>9} {'inputs/s':>9} {'worst ms':>8} {'grew MB':>7}"


@cache
def _targets() -> dict[str, Target]:
    return {target.name: target for target in targets()}


@cache
def _baseline_bytes() -> int:
    _targets()
    return peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(name: str, numbers: range) -> Tally:
    """A share of one target's inputs, in this process."""
    target, tally, base, before = _targets()[name], Tally(), _baseline_bytes(), peak_bytes()
    began = time.perf_counter()
    for number in numbers:
        _try(target, number, tally)
    tally.seconds = time.perf_counter() - began
    if (peak := peak_bytes()) > before:
        tally.growth_bytes = peak - base
    if tally.growth_bytes > MAX_GROWTH_BYTES:
        tally.faults[f"{name} memory"] = f"{name} {numbers}: {tally.growth_bytes:,} bytes of memory more"
    return tally


def _try(target: Target, number: int, tally: Tally) -> None:
    content = target.make(Random(crc32(target.name.encode()) << 32 | number))  # noqa: S311 - no secret
    began = time.perf_counter()
    try:
        tally.taken += target.takes(content)
    except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
        found = traceback.format_exc(limit=-3)
        tally.faults.setdefault(
            f"{target.name} {found[:MAX_SHOWN]}", f"{target.name} {number}: {content[:MAX_SHOWN]!r}\n{found}"
        )
    tally.slowest_s = max(tally.slowest_s, time.perf_counter() - began)
    tally.inputs += 1
    tally.input_bytes += len(content)


def shares(names: list[str], first: int, inputs: int) -> Iterator[tuple[str, range]]:
    """As many of each, the targets in turns."""
    end = first + -(-inputs // len(names))
    for begin in range(first, end, IN_A_ROW):
        for name in names:
            yield name, range(begin, min(begin + IN_A_ROW, end))


def main() -> None:
    """Run all; the exit status is 1 when something must not have happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000_000, help="how many in all")
    parser.add_argument("--first", type=int, default=0, help="number of the first one of each target")
    parser.add_argument("--only", choices=list(_targets()), help="this target only")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for how long at most")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many processes")
    given = parser.parse_args()
    names = [given.only] if given.only else list(_targets())
    began = time.monotonic()
    tallies = {name: Tally() for name in names}
    todo = list(shares(names, given.first, given.inputs))
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for (name, _), tally in zip(todo, pool.map(run, *zip(*todo, strict=True)), strict=True):
            tallies[name].add(tally)
            if time.monotonic() - began > given.seconds:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    _tell(tallies, time.monotonic() - began)


def _tell(tallies: dict[str, Tally], seconds: float) -> None:
    in_all = Tally()
    out = sys.stdout.write
    out(HEADINGS + "\n")
    for name, tally in tallies.items():
        if not tally.inputs:
            continue
        in_all.add(tally)
        out(tally.line(name) + "\n")
    out(in_all.line("in all") + "\n")
    out(f"{in_all.inputs / seconds:,.0f} inputs a second on all cores, {seconds:.0f} s\n")
    out("".join(f"{fault}\n" for fault in in_all.faults.values()))
    if in_all.faults:
        sys.exit(1)
    out("no input raised anything but WireError\n")


if __name__ == "__main__":
    main()
