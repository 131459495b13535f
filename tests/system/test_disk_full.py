"""A disk that takes no more, as a limit on the size of files that is set and lifted from outside."""

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.control import SettingValue, Verb
from tests.system.lab import DEVICES, SLOWLY, Document, Lab, Process

ROUNDS = 2
SETTINGS: dict[str, SettingValue] = {
    "rounds": ROUNDS,
    "epochs": 100,
    "min_devices": 3,
    "deadline_s": 3600.0,
    "strategy": "slow",
}


@contextmanager
def full_disk(process: Process) -> Iterator[None]:
    """While this lasts the process can write nothing past the first byte of any file, its log included."""
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))


def until_paused_for_the_disk(lab: Lab, run: str) -> Document:
    def found(seen: dict[str, Document]) -> Document | None:
        document = seen.get(f"runs/{run}", {})
        return document if document.get("state") == "paused" else None

    return lab.until(found)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("phase", ["training", "aggregating"])
def test_the_run_pauses_with_the_reason_and_goes_on_by_itself(lab: Lab, phase: str) -> None:
    slow = {"LAB_STRATEGY_S": "3"} if phase == "aggregating" else {}
    aggregator = lab.start_aggregator(environment=slow)
    lab.start_agents(examples=20, environment=SLOWLY)
    run = lab.start_run(**SETTINGS)
    lab.until(lambda seen: seen.get(f"runs/{run}", {}).get("state") == phase)
    with full_disk(aggregator):
        document = until_paused_for_the_disk(lab, run)
        assert "goes on by itself when there is room" in document["reason"]
        refused = lab.ask(Verb.STOP)
        assert not refused.ok
        assert "goes on by itself" in refused.text
        assert not lab.ask(Verb.RESUME).ok, "there is no room yet"
        assert aggregator.alive
        accepted = lab.accepted(run, 1)
    assert lab.until_ended(run)["state"] == "finished"
    assert lab.accepted(run, 1).items() >= accepted.items()
    for number in range(1, ROUNDS + 1):
        assert set(lab.accepted(run, number)) == set(DEVICES)
        for device in DEVICES:
            acknowledged = re.findall(rf"update of round {number}: accepted", lab.log(device))
            trained = re.findall(rf"round {number}: trained on", lab.log(device))
            assert (len(acknowledged), len(trained)) == (1, 1)
