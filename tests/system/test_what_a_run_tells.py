"""What a real run says to tools: documents and events against the docs' schemas, and logs as JSON."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from docs import schemas
from tests.system.secured import SecuredLab

VALIDATORS = {
    branch: Draft202012Validator(json.loads((schemas.FOLDER / schemas.file_name(model)).read_text()))
    for branch, model in schemas.MODELS.items()
}
# Of the others there are none in a run without mishaps, or of a task without classes.
ALWAYS = {"aggregator", "federation", "event", "recent", "run", "round", "history", "device"}


class Told:
    """A run of one round with one device, which came by token; all processes have ended."""

    def __init__(self, lab: SecuredLab) -> None:
        self.lab = lab
        aggregator, registrar = lab.start_aggregator(), lab.start_registrar()
        bundle = lab.token_bundle("pi-1")
        self.secret = (bundle / "token").read_text().strip().partition(".")[2]
        agent = lab.start_bundle(bundle, "pi-1")
        lab.until_state("pi-1", "idle")
        self.run = lab.start_run(rounds=1, min_devices=1)
        lab.until_ended(self.run)
        lab.until_logged("pi-1", "evaluating -> idle")
        self.statuses = [process.stop() for process in (agent, registrar, aggregator)]
        lab.until(lambda seen: seen["aggregator"]["online"] is False)

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lab.log(name).splitlines()]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MIDGE_LOG_FORMAT", "json")
        with SecuredLab(tmp_path_factory.mktemp("lab")) as lab:
            yield Told(lab)


def find(said: list[dict[str, Any]], **fields: object) -> dict[str, Any]:
    return next((line for line in said if fields.items() <= line.items()), {})


@pytest.mark.timeout(240)
def test_every_document_and_event_is_as_its_schema_says(told: Told) -> None:
    found = set()
    for name, document in told.lab.history:
        address = told.lab.topics.parse(f"{told.lab.topics.root}/monitor/{name}")
        assert address is not None, name
        VALIDATORS[address.branch].validate(document)
        found.add(schemas.file_name(schemas.MODELS[address.branch]).removesuffix(".json"))
    assert found >= ALWAYS


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "service"), [("aggregator", "aggregator"), ("registrar", "registrar"), ("pi-1", "agent")]
)
def test_every_line_of_every_service_parses_and_says_whose_it_is(told: Told, name: str, service: str) -> None:
    said = told.lines(name)
    assert {(line["service"], line["federation"]) for line in said} == {(service, told.lab.topics.federation)}
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, said))
    assert name != "pi-1" or {line["device"] for line in said} == {"pi-1"}
    assert told.secret not in told.lab.log(name)
    assert told.statuses == [0, 0, 0]


@pytest.mark.timeout(240)
def test_lines_about_a_device_a_run_or_a_round_say_which(told: Told) -> None:
    aggregator, agent, in_round = told.lines("aggregator"), told.lines("pi-1"), {"run": told.run, "round": 1}
    assert find(told.lines("registrar"), event="issued")["device"] == "pi-1"
    assert find(aggregator, event="command")["user"] == "operator"
    assert find(aggregator, event="update-accepted", **in_round)["device"] == "pi-1"
    assert find(aggregator, event="round-closed", **in_round)["outcome"] == "completed"
    assert all(find(agent, event=state, **in_round) for state in ("training", "uploading", "idle"))
    assert not {"run", "round"} & find(agent, event="stopping").keys()
