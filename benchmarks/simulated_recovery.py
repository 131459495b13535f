"""How long a fleet takes to be back after its broker was away: `python -m benchmarks.simulated_recovery`.

500 simulated devices, whose real agents connect again with the pauses of `broker.session`. Prints a table and
a line of JSON; times count from the broker's return, in seconds.
"""

import argparse
import json
from statistics import median
from typing import NamedTuple

from aggregator.run_settings import RunSettings
from deploy.simulator.scenario import Troubles, fleet
from deploy.simulator.session import SETTINGS
from deploy.simulator.world import World

AWAY_S = 60.0
SETTLED_S = 100.0
STEP_S = 0.5


class Recovery(NamedTuple):
    """Seconds after the broker's return, in order, and when the aggregator itself was back."""

    connected: list[float]
    heard: list[float]
    aggregator: float


def recovery(devices: int, seed: int) -> Recovery:
    settings = RunSettings(seed=seed, min_devices=min(devices, 4096), rounds=1)
    world = World(fleet(devices, settings, Troubles(), training_s=600.0, parameters=1000), traced=False)
    world.begin()
    world.until(SETTLED_S)
    world.broker.stop(killed=True)
    world.until(SETTLED_S + AWAY_S)
    before = {name: device.connection for name, device in world.devices.items()}
    world.broker.start()
    connected: dict[str, float] = {}
    heard: dict[str, float] = {}
    aggregator = 0.0
    while len(heard) < devices:
        world.until(world.clock.now + STEP_S)
        now = world.clock.now - SETTLED_S - AWAY_S
        if world.aggregator.session.connected and not aggregator:
            aggregator = now
        for name, known in world.aggregator.core.fleet.devices.items():
            if world.devices[name].connection != before[name]:
                connected.setdefault(name, now)
            if known.presence.connection != before[name]:
                heard.setdefault(name, now)
    return Recovery(sorted(connected.values()), sorted(heard.values()), aggregator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    found = recovery(given.devices, given.seed)
    seconds = [int(time) for time in found.connected]
    figures = {
        "devices": given.devices,
        "longest_back_off_s": SETTINGS.reconnect_max_s,
        "connected_median_s": median(found.connected),
        "connected_all_s": found.connected[-1],
        "most_in_a_second": max(map(seconds.count, seconds)),
        "aggregator_s": found.aggregator,
        "heard_all_s": found.heard[-1],
    }
    for name, value in figures.items():
        print(f"{name:>20}  {value:g}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
