"""How often rounds reach quorum and target when participants drop out: `python -m benchmarks.quorum`.

Real coordinator and agents on the simulator, 26 devices selected for a target of 20 and a quorum of 16. In a
fleet of 26 nobody can replace who drops out, and the binomial distribution says what to expect; in one of 60,
others are invited instead. Who drops out is back only after the round. Prints a table and a JSON line.

    python -m benchmarks.quorum --rounds 1000
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from math import comb

from aggregator.run_settings import RunSettings
from deploy.simulator.outcome import look_at
from deploy.simulator.scenario import Troubles, fleet
from deploy.simulator.world import World

SELECTED, TARGET, QUORUM = 26, 20, 16
# As short as a loss noticed after three heartbeats and a replacement's training allow: heartbeats cost most.
DEADLINE_S, TRAINING_S, HEARTBEAT_S = 75.0, 10.0, 10.0
AWAY_S = (DEADLINE_S, DEADLINE_S + 5.0)
ROUNDS_A_RUN = 250
HEADINGS = ("quorum", "target", "binomial", "binomial")
FLEETS, DROP_OUTS = (SELECTED, 60), (0.1, 0.2)


@dataclass(frozen=True)
class Reached:
    """Of `rounds` that were opened, how many reached their quorum, and their target."""

    rounds: int
    quorum: int
    target: int

    def __add__(self, other: "Reached") -> "Reached":
        return Reached(self.rounds + other.rounds, self.quorum + other.quorum, self.target + other.target)


def reached(devices: int, drop_out: float, rounds: int, seed: int) -> Reached:
    """Play one run of so many completed rounds; it opens each when all who drop out are back, or enough."""
    settings = RunSettings(
        seed=seed,
        rounds=rounds,
        target=TARGET,
        quorum=QUORUM,
        over_selection=SELECTED / TARGET,
        min_devices=SELECTED,
        deadline_s=DEADLINE_S,
        federated_evaluation=False,
        abandoned_limit=1000,
    )
    troubles = Troubles(dropout=drop_out, dropout_s=AWAY_S)
    scenario = fleet(devices, settings, troubles, training_s=TRAINING_S, parameters=1000)
    world = World(replace(scenario, heartbeat_s=HEARTBEAT_S), traced=False)
    world.run_in_trouble(lambda: None)
    outcome = look_at(world)
    return Reached(outcome.rounds, outcome.quorum, outcome.target)


def in_parallel(devices: int, drop_out: float, rounds: int) -> Reached:
    """Play runs with different seeds on every core, and add them up."""
    seeds = range(-(-rounds // ROUNDS_A_RUN))
    play = partial(reached, devices, drop_out, min(rounds, ROUNDS_A_RUN))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(play, seeds), Reached(0, 0, 0))


def expected(at_least: int, drop_out: float) -> float:
    """The probability that so many of those selected do not drop out, when nobody is replaced."""
    stays = 1 - drop_out
    return sum(
        comb(SELECTED, n) * stays**n * drop_out ** (SELECTED - n) for n in range(at_least, SELECTED + 1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    rounds = parser.parse_args().rounds
    print(f"{'devices':>7}{'drop-out':>10}{'rounds':>8}", *(f"{name:>10}" for name in HEADINGS))
    cases = []
    for devices, drop_out in product(FLEETS, DROP_OUTS):
        found = in_parallel(devices, drop_out, rounds)
        parts = [found.quorum / found.rounds, found.target / found.rounds]
        if devices == SELECTED:
            parts += [expected(QUORUM, drop_out), expected(TARGET, drop_out)]
        row = (f"{part:10.3%}" for part in parts)
        print(f"{devices:7}{drop_out:10.0%}{found.rounds:8}", *row, flush=True)
        cases.append({"devices": devices, "drop_out": drop_out, **asdict(found)})
    print(json.dumps({"selected": SELECTED, "target": TARGET, "quorum": QUORUM, "cases": cases}))


if __name__ == "__main__":
    main()
