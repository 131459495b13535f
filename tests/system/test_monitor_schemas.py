"""What a real run says under `monitor/`, held against the schemas of the docs."""

import json

import pytest
from jsonschema import Draft202012Validator

from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_ROUND,
    MONITOR_RUN,
)
from docs import schemas
from tests.system.lab import Lab

VALIDATORS = {
    branch: Draft202012Validator(json.loads((schemas.FOLDER / schemas.file_name(model)).read_text()))
    for branch, model in schemas.MODELS.items()
}
# Whatever else a run says.
ALWAYS = {MONITOR_AGGREGATOR, MONITOR_FEDERATION, MONITOR_RUN, MONITOR_ROUND, MONITOR_DEVICE}


@pytest.mark.timeout(240)
def test_every_document_and_event_of_a_run_is_as_its_schema_says(lab: Lab) -> None:
    aggregator = lab.start_aggregator()
    lab.start_agents("pi-1", "pi-2")
    run = lab.start_run(rounds=2, min_devices=2)
    lab.until_ended(run)
    lab.until(lambda seen: seen["federation"]["phase"] == "idle")
    aggregator.kill()
    lab.until(lambda seen: seen["aggregator"]["online"] is False)

    found = set()
    for name, document in lab.history:
        address = lab.topics.parse(f"{lab.topics.root}/monitor/{name}")
        assert address is not None, name
        VALIDATORS[address.branch].validate(document)
        found.add(address.branch)
    assert found >= ALWAYS
