"""Files of the aggregator damaged while it was down."""

from pathlib import Path

import pytest

from broker.control import SettingValue
from tests.system.lab import DEVICES, Document, Lab

SETTINGS: dict[str, SettingValue] = {"rounds": 2, "epochs": 100, "min_devices": 3, "deadline_s": 3600.0}


def damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def incident(lab: Lab, subject: str) -> dict[str, str]:
    def found(seen: dict[str, Document]) -> dict[str, str] | None:
        told = seen.get("incidents", {}).get("incidents", [])
        return next((each for each in told if each["subject"] == subject), None)

    return lab.until(found)


@pytest.mark.timeout(240)
def test_a_damaged_update_is_trained_again_and_counts_once(lab: Lab) -> None:
    aggregator = lab.start_aggregator()
    lab.start_agent("pi-1", examples=20)
    lab.start_agent("pi-2", examples=20)
    hand = lab.hand("pi-3")
    run = lab.start_run(**SETTINGS)
    lab.until(lambda seen: seen.get(f"runs/{run}/rounds/1", {}).get("reported", 0) == 2)
    before = lab.accepted(run, 1)
    aggregator.kill()
    hand.leave()
    update = f"spool/{run}/1/pi-1.update"
    damage(lab.folder / "aggregator" / update)
    lab.start_aggregator()
    assert "moved to quarantine/" in incident(lab, update)["detail"]
    lab.start_agent("pi-3", examples=20)
    assert lab.until_ended(run)["state"] == "finished"
    assert lab.accepted(run, 1)["pi-1"] == before["pi-1"], "the same seed and data, the same update"
    assert set(lab.accepted(run, 2)) == set(DEVICES)
    assert "training once more" in lab.log("pi-1")


@pytest.mark.timeout(240)
def test_a_damaged_model_falls_back_and_the_run_completes(lab: Lab) -> None:
    aggregator = lab.start_aggregator()
    agents = lab.start_agents(examples=20)
    run = lab.start_run(**SETTINGS)
    lab.until_round(run, 1, "closed")
    for agent in agents.values():
        agent.kill()
    aggregator.kill()
    theta = lab.run_folder(run) / "theta" / "round-0001.f32"
    with theta.open("r+b") as file:
        file.truncate(100)
    lab.start_aggregator()
    told = incident(lab, f"runs/{run}/theta/round-0001.f32")
    assert "has 100 bytes instead of 60" in told["detail"]
    lab.start_agents()
    assert lab.until_ended(run)["state"] == "finished"
