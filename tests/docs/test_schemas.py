"""The JSON Schemas of docs/schema: of every topic under `monitor/`, current, and strict where it matters."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from broker.monitor import SCHEMA_VERSION, AggregatorDocument
from broker.topics import TREE, Format
from docs import schemas

AGGREGATOR = json.loads((schemas.FOLDER / "aggregator.json").read_text())
SAID = json.loads(AggregatorDocument(online=True, session=3).payload())


def test_the_schemas_are_as_the_code_says() -> None:
    there = {path: path.read_text() for path in schemas.FOLDER.iterdir()}
    assert there == schemas.written(), "run `make docs`"


def test_every_topic_that_carries_json_has_a_schema() -> None:
    assert set(schemas.MODELS) == {branch for branch in TREE if branch.format is Format.JSON}
    assert {model.__name__ for model in schemas.MODELS.values()} == {each.message for each in schemas.MODELS}


@pytest.mark.parametrize("path", sorted(schemas.written()), ids=lambda path: path.name)
def test_a_schema_is_valid_and_needs_no_other_file(path: Path) -> None:
    schema = json.loads(path.read_text())
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(schema)
    assert all(ref.startswith("#/$defs/") for ref in _refs(schema))
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "was expected"),
        ({"online": "yes"}, "is not of type 'boolean'"),
    ],
    ids=["another version", "another type"],
)
def test_what_is_no_such_document_does_not_pass(changed: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Draft202012Validator(AGGREGATOR).validate(SAID | changed)


@pytest.mark.parametrize("name", ["schema_version", "at_unix_s", "renewed_every_s", "online"])
def test_what_a_reader_relies_on_may_not_be_missing(name: str) -> None:
    with pytest.raises(ValidationError, match="is a required property"):
        Draft202012Validator(AGGREGATOR).validate({key: SAID[key] for key in SAID.keys() - {name}})


def test_a_field_that_a_later_aggregator_adds_passes() -> None:
    Draft202012Validator(AGGREGATOR).validate(SAID | {"mood": "good"})


def _refs(schema: Any) -> list[str]:  # noqa: ANN401  JSON
    if isinstance(schema, list):
        return [ref for each in schema for ref in _refs(each)]
    if not isinstance(schema, dict):
        return []
    return [value for key, value in schema.items() if key == "$ref"] + _refs(list(schema.values()))
