"""The aggregator killed with -9 in each phase, and started again."""

import re
from pathlib import Path

import pytest

from aggregator.settings import SIGNING_KEY
from broker.control import SettingValue
from broker.signing import Signer
from tests.system.lab import DEVICES, KERAS_TASK, SLOWLY, TASK, Lab, Process

ROUNDS = 2
SETTINGS: dict[str, SettingValue] = {
    "rounds": ROUNDS,
    "epochs": 100,
    "strategy": "slow",
    "min_devices": 3,
    "deadline_s": 3600.0,
}
FOREVER_S = "600"
SLOW_IN = {
    "preparing": {"LAB_BUILD_S": FOREVER_S},
    "waiting": {},
    "training": {},
    "aggregating": {"LAB_STRATEGY_S": FOREVER_S},
    "evaluating": {},
}


def task_of(phase: str) -> Path:
    """In one phase the whole of it, Keras and LiteRT included."""
    return KERAS_TASK if phase == "evaluating" else TASK


def bring_to(lab: Lab, phase: str) -> tuple[Process, str]:
    """A run whose first round is in this phase, with a part of the work behind it."""
    process = lab.start_aggregator(task_of(phase), environment=SLOW_IN[phase])
    if phase == "preparing":
        lab.start_agents()
        lab.ask_without_waiting("blobs", **SETTINGS)
    else:
        # The next process signs with the same key, and what it announces is news.
        key = Signer(lab.folder / "aggregator" / SIGNING_KEY).public_key
        lab.start_agent("pi-1", examples=20, aggregator_key=key)
        # These are still at it when the first one's update is accepted.
        lab.start_agent("pi-2", examples=20, environment=SLOWLY)
        if phase != "waiting":
            lab.start_agent("pi-3", examples=20, environment=SLOWLY)
        lab.start_run(**SETTINGS)
    run: str = lab.until(lambda seen: seen.get("federation", {}).get("run"))
    if phase == "evaluating":
        # It lives, and never says how good the new model is.
        lab.until(lambda seen: seen.get(f"runs/{run}", {}).get("state") == "training")
        lab.hand("pi-5")
    lab.until(lambda seen: seen.get(f"runs/{run}", {}).get("state") == phase)
    if phase == "training":
        lab.until(lambda seen: seen.get(f"runs/{run}/rounds/1", {}).get("reported", 0) == 1)
    return process, run


@pytest.mark.timeout(240)
@pytest.mark.parametrize("phase", SLOW_IN)
def test_the_run_completes_and_every_acknowledged_update_counts_once(lab: Lab, phase: str) -> None:
    process, run = bring_to(lab, phase)
    process.kill()
    lab.leave()
    lab.start_aggregator(task_of(phase))
    if phase == "waiting":
        lab.start_agent("pi-3", examples=20)

    assert lab.until_ended(run)["state"] == "finished"
    for number in range(1, ROUNDS + 1):
        counted = lab.accepted(run, number)
        assert set(counted) == set(DEVICES)
        for device in DEVICES:
            acknowledged = re.findall(rf"update of round {number}: accepted", lab.log(device))
            trained = re.findall(rf"round {number}: trained on", lab.log(device))
            assert (len(acknowledged), len(trained)) == (1, 1)
    suffix = ".keras" if task_of(phase) is KERAS_TASK else ".npz"
    assert len(list((lab.run_folder(run) / "models").glob(f"*{suffix}"))) == ROUNDS
