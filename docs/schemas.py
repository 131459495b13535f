# ruff: noqa: INP001 - docs/ is no package
"""JSON Schemas of what stands under `monitor/`, draft 2020-12, from the models that write it."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from broker.happenings import EventDocument
from broker.monitor import SCHEMA_VERSION, Document
from broker.topics import MONITOR_EVENTS, Branch
from deploy.viewing.view import DOCUMENTS

FOLDER = Path(__file__).with_name("schema")
DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS: dict[Branch, type[BaseModel]] = DOCUMENTS | {MONITOR_EVENTS: EventDocument}


def file_name(model: type[BaseModel]) -> str:
    """The file of a model's schema, below FOLDER."""
    return f"{model.__name__.removesuffix('Document').lower()}.json"


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """What a message of this model may be; of the fields that all have, none is missing."""
    made = model.model_json_schema()
    properties = made["properties"]
    properties["schema_version"] |= {"const": SCHEMA_VERSION}
    always = properties.keys() & Document.model_fields.keys()
    required = [name for name in properties if name in {*made.get("required", ()), *always}]
    return {"$schema": DIALECT, **made, "required": required}


def written() -> dict[Path, str]:
    """Every file of FOLDER with its text."""
    return {
        FOLDER / file_name(model): json.dumps(schema(model), indent=2, ensure_ascii=False) + "\n"
        for model in MODELS.values()
    }
