"""The broker killed with -9, and back with retained messages of long ago."""

import os
import re
import signal
import time

import pytest

from tests.system.lab import DEVICES, PATIENCE_S, SLOWLY, Lab

# Each takes its time: two seconds, to be caught at it.
STEPS = 100


def save_now(lab: Lab) -> bytes:
    """Have the broker write its database, as it does by itself now and then."""
    database = lab.folder / "mosquitto" / "mosquitto.db"
    database.unlink(missing_ok=True)
    os.kill(lab.mosquitto.pid, signal.SIGUSR1)
    deadline = time.monotonic() + PATIENCE_S
    while not (database.exists() and database.stat().st_size):
        assert time.monotonic() < deadline, "the broker did not save"
        time.sleep(0.05)
    return database.read_bytes()


@pytest.mark.timeout(240)
def test_nobody_believes_the_retained_messages_of_an_old_database(lab: Lab) -> None:
    lab.start_aggregator()
    lab.start_agents(environment=SLOWLY)
    run = lab.start_run(rounds=3, min_devices=3, steps=STEPS, deadline_s=3600.0)
    lab.until(lambda seen: seen.get("devices/pi-1", {}).get("progress", 0) > 0)
    old = save_now(lab)
    lab.until_round(run, 2, "training")
    lab.until(lambda seen: seen["devices/pi-1"]["round"] == 2 and seen["devices/pi-1"]["progress"] > 0)

    lab.mosquitto.kill()
    (lab.folder / "mosquitto" / "mosquitto.db").write_bytes(old)
    lab.mosquitto.start()

    assert lab.until_ended(run)["state"] == "finished"
    for number in (1, 2, 3):
        assert set(lab.accepted(run, number)) == set(DEVICES)
    for device in DEVICES:
        assert re.findall(r"round (\d+): trained on", lab.log(device)) == ["1", "2", "3"]
    lab.until_cleared("blobs/#")


@pytest.mark.timeout(240)
def test_a_second_run_never_takes_an_update_of_the_first(lab: Lab) -> None:
    aggregator = lab.start_aggregator()
    agents = lab.start_agents(environment=SLOWLY)
    first = lab.start_run(rounds=1, min_devices=3, steps=STEPS, deadline_s=3600.0, quorum=1)
    lab.until(lambda seen: seen.get("devices/pi-3", {}).get("progress", 0) > 0)
    aggregator.kill()
    # With nobody to take it, the update stays on the device.
    deadline = time.monotonic() + PATIENCE_S
    while "uploading" not in lab.log("pi-3"):
        assert time.monotonic() < deadline, "pi-3 did not finish its training"
        time.sleep(0.1)
    agents["pi-3"].kill()
    lab.start_aggregator()
    assert lab.until_ended(first)["state"] == "finished"
    assert "pi-3" not in lab.accepted(first, 1)

    second = lab.start_run(rounds=1, min_devices=3, epochs=1)
    lab.start_agent("pi-3")
    assert lab.until_ended(second)["state"] == "finished"
    assert set(lab.accepted(second, 1)) == set(DEVICES)
    assert "update of round 1: late" in lab.log("pi-3")
    trained = re.findall(r"trained on", lab.log("pi-3"))
    assert len(trained) == 2
