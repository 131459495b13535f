"""Fleets on which everything goes wrong, for as many seeds as fit into a minute."""

import os
import subprocess
import sys

import pytest

from deploy.simulator.fates import ViolationError
from deploy.simulator.scenario import chaos
from deploy.simulator.world import World
from tests.simulator.planted import ALL, Plant

SEEDS = int(os.environ.get("MIDGE_SIMULATED_SEEDS", "500"))
"""How many `make test` tries; `make simulate-long` sets more."""
PARTS = 10
FOUND_WITHIN = 500


def simulate(seed: int) -> World:
    world = World(chaos(seed))
    try:
        world.run()
    finally:
        world.aggregator.ledger.close()
    return world


def simulate_many(seeds: range) -> None:
    for seed in seeds:
        simulate(seed)


@pytest.mark.timeout(0 if SEEDS > 500 else 120)
@pytest.mark.parametrize("part", range(PARTS), ids=str)
def test_nothing_is_lost_and_every_run_completes(part: int) -> None:
    simulate_many(range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS))


@pytest.mark.parametrize("plant", ALL, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(ViolationError) as found:
        simulate_many(range(FOUND_WITHIN))
    print(plant.__name__, found.value)  # noqa: T201 - with pytest -s: which seed finds it


def test_a_seed_gives_the_same_in_every_process() -> None:
    script = (
        "from tests.simulator.test_simulated_chaos import simulate\n"
        "print(*(simulate(seed).digest for seed in range(5)))"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": str(number)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for number in range(2)
    }
    assert len(digests) == 1
    assert len({*digests.pop().split()}) == 5
