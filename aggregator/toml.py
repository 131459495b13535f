"""Just enough TOML writing for run.toml: https://toml.io/en/v1.0.0."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from aggregator.records import JSON

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(table: Mapping[str, JSON]) -> str:
    """Write a table with its sub-tables; what is None is left out, as TOML has no word for it."""
    return "\n".join(_lines(table, ())).lstrip("\n") + "\n"


def _lines(table: Mapping[str, JSON], path: tuple[str, ...]) -> Iterator[str]:
    for key, value in table.items():
        if value is not None and not isinstance(value, Mapping):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield f"\n[{'.'.join(_key(part) for part in (*path, key))}]"
            yield from _lines(value, (*path, key))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _value(value: JSON) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        inner = (f"{_key(key)} = {_value(item)}" for key, item in value.items() if item is not None)
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(item) for item in value if item is not None)}]"
    return repr(value)


def _text(text: str) -> str:
    """Quote as JSON does, which TOML reads, but for DEL and for escaped surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
