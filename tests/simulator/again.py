"""Run one seed again, and print what happened last: `make simulate SEED=129`."""

import sys

from deploy.simulator.fates import ViolationError
from deploy.simulator.scenario import chaos
from deploy.simulator.world import World

WIDTH = 300


def main(seed: int) -> int:
    """Give 1 when something that must hold did not."""
    scenario = chaos(seed)
    world = World(scenario)
    print(scenario.troubles)  # noqa: T201
    try:
        world.run()
    except ViolationError as violation:
        print(*(line[:WIDTH] for line in world.recent), violation, sep="\n")  # noqa: T201
        return 1
    print(f"seed {seed}: {world.clock.steps} steps, all well; trace {world.digest}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
