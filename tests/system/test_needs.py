"""What a task needs decides who trains it, and the monitor says why others do not."""

import re
import tomllib
from pathlib import Path

import pytest

from broker.control import Verb
from tests.system.lab import Document, Lab

TASK = Path(__file__).with_name("needy_task.py")
# A batch of 16 examples in half a second: 32 a second.
SLOW = {"LAB_BATCH_S": "0.5"}


@pytest.mark.timeout(240)
def test_a_run_completes_with_the_devices_that_fit_and_the_others_are_told_why_not(lab: Lab) -> None:
    # A busy machine that lets a device look lost would hide what it declines.
    lab.start_aggregator(TASK, heartbeat_s=2.0)
    lab.start_agent("pi-1", tags=["indoor"])
    lab.start_agent("pi-2", tags=["outdoor"])
    lab.start_agent("pi-3", tags=["indoor"], environment=SLOW)
    lab.until(lambda seen: seen.get("federation", {}).get("live") == 3)
    run = lab.start_run(rounds=3, min_devices=1, epochs=20, batch_size=16)

    def both_left_out(documents: dict[str, Document]) -> str | None:
        why = {name: document.get("not_selected", "") for name, document in documents.items()}
        slow: str = why.get("devices/pi-3", "")
        return slow if why.get("devices/pi-2") == "lacks tag indoor" and slow.startswith("trains") else None

    slow = lab.until(both_left_out)
    speed = re.fullmatch(r"trains ([0-9.]+) examples/s, the task needs 100", slow)
    assert speed is not None
    assert 0 < float(speed[1]) <= 32

    assert lab.until_ended(run)["state"] == "finished"
    parts = [lab.until_round(run, number, "closed")["participants"] for number in (1, 2, 3)]
    assert (parts[0]["pi-3"]["status"], parts[0]["pi-3"]["reason"]) == ("declined", "needs")
    assert [sorted(part) for part in parts] == [["pi-1", "pi-3"], ["pi-1"], ["pi-1"]]
    assert {part["pi-1"]["status"] for part in parts} == {"accepted"}
    assert lab.documents["devices/pi-1"]["not_selected"] == ""
    assert f"declined, needs: {slow}" in lab.log("aggregator")
    manifest = tomllib.loads((lab.run_folder(run) / "run.toml").read_text())
    assert manifest["needs"] == {"tags": ["indoor"], "examples_per_s": 100}


@pytest.mark.timeout(240)
def test_a_run_without_a_device_that_fits_says_why_it_waits_and_goes_on_when_one_comes(lab: Lab) -> None:
    lab.start_aggregator(TASK)
    lab.start_agent("pi-1", tags=["outdoor"])
    lab.until(lambda seen: seen.get("devices/pi-1", {}).get("live"))
    run = lab.start_run(rounds=1, batch_size=16)

    def reason(documents: dict[str, Document]) -> str:
        return str(documents.get(f"runs/{run}", {}).get("reason", ""))

    lab.until(lambda seen: reason(seen) == "waits for devices: 1 needed, 0 fit; kept out: 1 tags")
    lab.start_agent("pi-2", tags=["indoor"])
    assert lab.until_ended(run)["state"] == "finished"


def test_a_run_that_waits_says_so_once_in_the_log(lab: Lab) -> None:
    lab.start_aggregator(TASK)
    lab.start_agent("pi-2", tags=["outdoor"])
    lab.until_state("pi-2", "idle")
    run = lab.start_run(rounds=1, epochs=1, batch_size=16)
    told = re.compile(rf"run {run} waits for devices: 1 needed, 0 fit; kept out: 1 (tags|lost)")
    while not told.search(lab.log("aggregator")):
        lab.ask(Verb.RUNS)
    lab.start_agent("pi-1", tags=["indoor"])
    assert lab.until_ended(run)["state"] == "finished"
    assert len(told.findall(lab.log("aggregator"))) == 1
