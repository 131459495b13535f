# ruff: noqa: INP001 - docs/ is no package
"""Markdown tables of pydantic models, read from their JSON schema."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter

from broker.names import ID_PATTERN

Schema = dict[str, Any]

PATTERNS = {
    ID_PATTERN: "id",
    "^[0-9a-f]{16}$": "16 hex digits",
    "^[0-9a-f]{64}$": "64 hex digits",
}
LARGE = 1 << 31


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write rows under their headings; a column that is empty throughout is left out."""
    kept = [i for i, _ in enumerate(headings) if any(row[i] for row in rows)]
    lines = [[headings[i] for i in kept], ["---"] * len(kept), *([row[i] for i in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def fields_table(model: type[BaseModel], first: str, base: type[BaseModel] = BaseModel) -> str:
    """A row a field, but for those of `base`: name, type with its limits, default, meaning."""
    schema = TypeAdapter(model).json_schema()
    required = schema.get("required", [])
    rows = [
        (f"`{name}`", type_of(field), _default(field, required=name in required), meaning(field))
        for name, field in schema["properties"].items()
        if name not in base.model_fields
    ]
    return table((first, "type", "default", "meaning"), rows)


def meaning(field: Schema) -> str:
    """What a field is for, as its description says; empty without one."""
    # What is None in the code is a setting that is not there.
    return " ".join(str(field.get("description", "")).replace("None:", "without it:").split())


def type_of(field: Schema) -> str:
    """Say in words what may stand in a field."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in field:
        return f'`"{field["const"]}"`'
    if "enum" in field:
        return " or ".join(f'`"{value}"`' for value in field["enum"])
    for union in ("anyOf", "oneOf"):
        if union in field:
            return " or ".join(type_of(part) for part in field[union] if part.get("type") != "null")
    return {"array": _array, "object": _map, "string": _text}.get(field["type"], _number)(field)


def _array(field: Schema) -> str:
    if "prefixItems" in field:
        return f"pair of {' and '.join(type_of(item) for item in field['prefixItems'])}"
    return f"list{_count(field, 'maxItems')} of {type_of(field['items'])}"


def _map(field: Schema) -> str:
    patterned = field.get("patternProperties") or {}
    values = field.get("additionalProperties") or next(iter(patterned.values()))
    keys = next(iter(patterned), None)
    of = PATTERNS.get(keys or "", "text")
    return f"map{_count(field, 'maxProperties')} of {of} to {type_of(values)}"


def _text(field: Schema) -> str:
    if "pattern" in field:
        known = PATTERNS.get(field["pattern"])
        return known or f"text like `{field['pattern']}`"
    if field.get("format") == "path":
        return "path"
    if field.get("format") == "binary":
        return f"{field['maxLength']} bytes" if "maxLength" in field else "bytes"
    if field.get("maxLength") == field.get("minLength") == 1:
        return "one character"
    longest = field.get("maxLength")
    return "text" if longest is None else f"text, at most {number(longest)} characters"


def _number(field: Schema) -> str:
    words = {"integer": "whole number", "number": "number", "boolean": "true or false"}
    return ", ".join([words[field["type"]], *_bounds(field)])


def _bounds(field: Schema) -> Iterator[str]:
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        yield f"{number(low)} to {number(high)}"
    elif low is not None:
        yield f"{number(low)} or more"
    if (above := field.get("exclusiveMinimum")) is not None:
        yield f"above {number(above)}"
    if high is not None and low is None:
        yield f"at most {number(high)}"
    if (below := field.get("exclusiveMaximum")) is not None:
        yield f"below {number(below)}"


def _count(field: Schema, limit: str) -> str:
    return f" (at most {number(field[limit])})" if limit in field else ""


def number(value: float) -> str:
    """A number as people read it; large powers of two as such."""
    whole = int(value)
    if whole != value:
        return f"{value:g}"
    return f"2^{whole.bit_length() - 1}" if whole >= LARGE and whole.bit_count() == 1 else f"{whole:,}"


def _default(field: Schema, *, required: bool) -> str:
    if required or "const" in field:
        return "required"
    value = field.get("default")
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{value!r}`" if abs(value) < LARGE else f"`{value:,}`"
