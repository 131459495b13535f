"""Settings files to start from: what was chosen, and as comments every other setting with its default."""

import textwrap
from collections.abc import Iterator
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aggregator.records import JSON
from aggregator.toml import to_toml

WIDTH = 100


def starter(settings: BaseModel, title: str) -> str:
    """Write a TOML file that reads as these settings; what is as by default stands as `#name = value`.

    Maps are left out.
    """
    return "\n".join([f"# {title}", *_lines(settings, "")]) + "\n"


def example(table: str, settings: BaseModel) -> str:
    """Write a table of which every line is a comment."""
    lines = [*_remark(settings.__doc__), f"[{table}]", *_lines(settings, table)]
    return "\n" + "\n".join(line if not line or line.startswith("#") else f"#{line}" for line in lines) + "\n"


def example_map(name: str, model: type[BaseModel], entry: str) -> str:
    """Write a map's table of which every line is a comment; `entry` shows what stands in it."""
    return "\n".join(["", *_remark(model.model_fields[name].description), f"#[{name}]", f"#{entry}", ""])


def _lines(settings: BaseModel, table: str) -> Iterator[str]:
    # A union's tag first: it tells which model the table is of.
    fields = dict(sorted(type(settings).model_fields.items(), key=lambda item: not _is_tag(item[1])))
    values = {name: getattr(settings, name) for name in fields}
    tables = {name: value for name, value in values.items() if isinstance(value, BaseModel)}
    plain = settings.model_dump(mode="json", exclude=set(tables))
    for name in (name for name in fields if name in plain):
        value = plain[name]
        if not isinstance(value, dict):
            yield ""
            yield from _remark(fields[name].description)
            yield _setting(name, value, chosen=_is_chosen(fields[name], values[name]))
    for name, value in tables.items():
        inner = f"{table}.{name}" if table else name
        yield ""
        yield from _remark(fields[name].description)
        yield f"[{inner}]"
        yield from _lines(value, inner)


def _is_tag(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def _is_chosen(field: FieldInfo, value: object) -> bool:
    return _is_tag(field) or field.is_required() or value != field.default


def _setting(name: str, value: JSON, *, chosen: bool) -> str:
    if value is None:
        return f"#{name} ="
    return ("" if chosen else "#") + to_toml({name: value}).strip()


def _remark(description: str | None) -> Iterator[str]:
    text = (description or "").replace("None:", "without it:")
    yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")
