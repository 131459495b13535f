from benchmarks.simulated_recovery import recovery
from deploy.simulator.session import SETTINGS


def test_a_fleet_is_back_within_two_of_the_longest_back_offs_and_not_all_at_once() -> None:
    found = recovery(devices=60, seed=1)
    assert len(found.connected) == len(found.heard) == 60
    assert found.heard[-1] <= 2 * SETTINGS.reconnect_max_s
    assert found.connected[29] - found.connected[0] > 5
