"""The logs of a real run as JSON: one object a line, with the ids of what it is about."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.secured import SecuredLab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecuredLab]:
    monkeypatch.setenv("MIDGE_LOG_FORMAT", "json")
    with SecuredLab(tmp_path) as started:
        yield started


def lines(lab: SecuredLab, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lab.log(name).splitlines()]


def find(said: list[dict[str, Any]], **fields: object) -> dict[str, Any]:
    return next(line for line in said if fields.items() <= line.items())


@pytest.mark.timeout(240)
def test_every_line_of_every_service_parses_and_has_its_ids(lab: SecuredLab) -> None:
    aggregator = lab.start_aggregator()
    registrar = lab.start_registrar()
    bundle = lab.token_bundle("pi-1")
    secret = (bundle / "token").read_text().strip().partition(".")[2]
    agent = lab.start_bundle(bundle, "pi-1")
    lab.until_state("pi-1", "idle")
    run = lab.start_run(rounds=1, min_devices=1)
    lab.until_ended(run)
    lab.until_logged("pi-1", "evaluating -> idle")
    assert [process.stop() for process in (agent, registrar, aggregator)] == [0, 0, 0]

    said = {name: lines(lab, name) for name in ("aggregator", "registrar", "pi-1")}
    services = {"aggregator": "aggregator", "registrar": "registrar", "pi-1": "agent"}
    for name, its in said.items():
        assert {line["service"] for line in its} == {services[name]}
        assert len({line["federation"] for line in its}) == 1
        assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, its))
        assert secret not in lab.log(name)
    assert {line["device"] for line in said["pi-1"]} == {"pi-1"}

    in_round = {"run": run, "round": 1}
    assert find(said["registrar"], event="issued")["device"] == "pi-1"
    assert find(said["aggregator"], event="command")["user"] == "operator"
    assert find(said["aggregator"], event="update-accepted", **in_round)["device"] == "pi-1"
    assert find(said["aggregator"], event="round-closed", **in_round)["outcome"] == "completed"
    for state in ("training", "uploading", "idle"):
        find(said["pi-1"], event=state, **in_round)
    assert not {"run", "round"} & find(said["pi-1"], event="stopping").keys()
