"""Devices that die, come late, or come back without their memory."""

import shutil

import pytest

from broker.control import SettingValue
from tests.system.lab import DEVICES, SLOWLY, Lab

# No test would pass that had to wait for it.
FAR_DEADLINE_S = 36_000.0
LONG: dict[str, SettingValue] = {
    "steps": 150,  # three seconds, to be caught at it
    "batch_size": 16,
    "deadline_s": FAR_DEADLINE_S,
    "min_devices": 3,
}


def training(lab: Lab, device: str) -> None:
    lab.until(lambda seen: seen.get(f"devices/{device}", {}).get("progress", 0) > 0)


@pytest.mark.timeout(240)
def test_a_device_killed_while_it_trains_does_not_hold_the_round_up_and_joins_the_next(lab: Lab) -> None:
    lab.start_aggregator()
    agents = lab.start_agents(environment=SLOWLY)
    run = lab.start_run(rounds=2, **LONG)
    training(lab, "pi-3")
    agents["pi-3"].kill()

    first = lab.until_round(run, 1, "closed")
    assert first["outcome"] == "completed"
    assert {device for device, part in first["participants"].items() if part["status"] == "accepted"} == {
        "pi-1",
        "pi-2",
    }
    assert lab.documents["devices/pi-3"]["state"] == "lost"

    lab.start_agent("pi-3", environment=SLOWLY)
    second = lab.until_round(run, 2, "closed")
    assert second["participants"]["pi-3"]["status"] == "accepted"
    assert lab.until_ended(run)["state"] == "finished"


@pytest.mark.timeout(240)
def test_late_joiners_and_devices_without_memory_take_part_in_the_next_round(lab: Lab) -> None:
    lab.start_aggregator()
    agents = lab.start_agents(environment=SLOWLY)
    run = lab.start_run(rounds=2, **LONG)
    training(lab, "pi-1")
    lab.start_agent("pi-4", environment=SLOWLY)
    agents["pi-2"].kill()
    shutil.rmtree(lab.folder / "pi-2")
    lab.start_agent("pi-2", environment=SLOWLY)

    first = lab.until_round(run, 1, "closed")
    assert set(first["participants"]) >= set(DEVICES)
    second = lab.until_round(run, 2, "closed")
    accepted = {device for device, part in second["participants"].items() if part["status"] == "accepted"}
    assert accepted == {"pi-1", "pi-2", "pi-3", "pi-4"}
