"""The owner of a device has the last word on when it trains."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.lab import Lab

# A round takes long enough to be caught at it, and few seconds.
SLOWLY = {"LAB_BATCH_S": "0.05"}


def tell(lab: Lab, device: str, *arguments: str) -> str:
    """Run a verb of midge-agent on this device."""
    command = str(Path(sys.executable).with_name("midge-agent"))
    whole = [command, *arguments, "--config", str(lab.folder / f"{device}.toml")]
    return subprocess.run(whole, check=True, capture_output=True, text=True).stdout


@pytest.mark.timeout(240)
def test_a_paused_device_declines_is_not_selected_and_comes_back_without_a_new_connection(lab: Lab) -> None:
    lab.start_aggregator()
    lab.start_agents("pi-1", "pi-2", environment=SLOWLY)
    lab.until(lambda seen: {"devices/pi-1", "devices/pi-2"} <= seen.keys())
    run = lab.start_run(rounds=4, min_devices=1, steps=60, batch_size=16)
    lab.until_state("pi-1", "training")

    assert "for 1 h" in tell(lab, "pi-1", "pause", "--for", "1h")
    why = "not available, paused: paused by its owner for 1 h"
    lab.until(lambda seen: seen["devices/pi-1"]["not_selected"] == why)
    assert why in tell(lab, "pi-1", "status")
    first = lab.until_round(run, 1, "closed")
    told = {"status": "declined", "reason": "paused", "examples": 0, "training": {}, "validation": {}}
    assert told.items() <= first["participants"]["pi-1"].items()
    assert set(lab.until_round(run, 2, "training")["participants"]) == {"pi-2"}

    assert "goes on" in tell(lab, "pi-1", "resume")
    assert lab.until_ended(run)["state"] == "finished"
    assert [set(lab.accepted(run, number)) for number in (1, 2, 4)] == [{"pi-2"}, {"pi-2"}, {"pi-1", "pi-2"}]
    assert lab.log("pi-1").count("connected to") == 1
