"""The monitor topics, read as a person would: with mosquitto_sub."""

import json
import shutil
import subprocess

import pytest

from broker.monitor import (
    AggregatorDocument,
    DeviceDocument,
    Document,
    FederationDocument,
    RoundDocument,
    RunDocument,
)
from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_ROUND,
    MONITOR_RUN,
    Branch,
)
from tests.system.lab import PATIENCE_S, Lab

MODELS: dict[Branch, type[Document]] = {
    MONITOR_AGGREGATOR: AggregatorDocument,
    MONITOR_FEDERATION: FederationDocument,
    MONITOR_RUN: RunDocument,
    MONITOR_ROUND: RoundDocument,
    MONITOR_DEVICE: DeviceDocument,
}


def retained(lab: Lab, count: int) -> dict[str, str]:
    """What mosquitto_sub prints of the monitor topics."""
    program = shutil.which("mosquitto_sub")
    assert program is not None
    account = lab.account("monitor")
    where = [
        "-h",
        "127.0.0.1",
        "-p",
        str(lab.mosquitto.port),
        "-u",
        "monitor",
        "-P",
        account.password() or "",
    ]
    asked = [program, *where, "-t", f"{lab.topics.root}/monitor/#", "-v", "-C", str(count), "--retained-only"]
    printed = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    return dict(line.split(" ", 1) for line in printed.stdout.splitlines())


@pytest.mark.timeout(240)
def test_mosquitto_sub_alone_tells_the_state_of_aggregator_run_round_and_devices(lab: Lab) -> None:
    aggregator = lab.start_aggregator()
    lab.start_agents("pi-1", "pi-2")
    run = lab.start_run(rounds=2, min_devices=2)
    lab.until_ended(run)
    lab.until(lambda seen: seen["federation"]["phase"] == "idle")

    printed = retained(lab, 7)
    seen = {}
    for topic, text in printed.items():
        address = lab.topics.parse(topic)
        assert address is not None
        seen[address.branch] = MODELS[address.branch].model_validate_json(text)
    assert set(seen) == set(MODELS)
    last = json.loads(printed[f"{lab.topics.root}/monitor/runs/{run}/rounds/2"])
    assert (last["outcome"], last["reported"]) == ("completed", 2)
    assert set(last["metrics"]) == set(last["federated"]) == {"loss", "accuracy"}
    assert json.loads(printed[f"{lab.topics.root}/monitor/runs/{run}"])["state"] == "finished"

    aggregator.kill()
    lab.until(lambda seen: seen["aggregator"]["online"] is False)
