"""Settings: a TOML file, the environment and the command line into one frozen pydantic model.

What stands later wins: default, file, environment (`MIDGE_BROKER__URL`), command line. Every fault ends as
a ConfigError that says where, which key, what is wrong and what is expected; one line a fault.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from host.errors import ConfigError

PREFIX = "MIDGE_"
NESTED = "__"
MAX_FILE_BYTES = 1 << 20
MAX_SHOWN = 80

M = TypeVar("M", bound=BaseModel)
Values = dict[str, Any]
Location = tuple[int | str, ...]


def load_settings(
    model: type[M], path: Path | None, overrides: Mapping[str, Any], environment: Mapping[str, str]
) -> M:
    """Read settings; `overrides` has dotted keys. Values that are text may be JSON for lists and tables.

    Raises ConfigError, one line a fault.
    """
    given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in overrides.items()}
    named = {f"{PREFIX}{key.replace('.', NESTED)}": value for key, value in given.items()}
    sources = {
        "--set": {**_from_variables(model, named, "--set"), **_unknown(model, given)},
        "environment": _from_variables(model, environment, "environment"),
        str(path) if path else "without --config": _from_file(model, path) if path else {},
    }
    merged: Values = {}
    for values in reversed(sources.values()):
        merged = _merge(merged, values)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
        raise ConfigError("\n".join(_describe(model, fault, sources) for fault in faults)) from None


def _from_file(model: type[BaseModel], path: Path) -> Values:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; name the settings file with --config"
        ) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES} bytes; that is no settings file")
    try:
        return _rooted([model], tomllib.loads(content.decode()), path.parent)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no valid TOML: {error}") from None


def _rooted(models: list[type[BaseModel]], values: Values, folder: Path) -> Values:
    """Have relative paths count from the folder of their file, which may then be moved as a whole."""
    return {key: _rooted_value(_annotations(models, key), value, folder) for key, value in values.items()}


def _rooted_value(annotations: list[Any], value: Any, folder: Path) -> Any:  # noqa: ANN401  any setting
    if isinstance(value, str) and any(_holds_path(annotation) for annotation in annotations):
        return str(folder / value)
    inner = [model for annotation in annotations for model in _models_in(annotation)]
    if not isinstance(value, dict) or not inner:
        return value
    if any(_is_map(annotation) for annotation in annotations):
        return {
            key: _rooted(inner, item, folder) if isinstance(item, dict) else item
            for key, item in value.items()
        }
    return _rooted(inner, value, folder)


def _annotations(models: list[type[BaseModel]], key: str) -> list[Any]:
    return [model.model_fields[key].annotation for model in models if key in model.model_fields]


def _holds_path(annotation: Any) -> bool:  # noqa: ANN401  any annotation
    return annotation is Path or any(argument is Path for argument in get_args(annotation))


def _is_map(annotation: Any) -> bool:  # noqa: ANN401  any annotation
    return get_origin(annotation) is dict


def _from_variables(model: type[BaseModel], variables: Mapping[str, str], source: str) -> Values:
    """The settings among environment variables, as pydantic-settings reads them."""
    if not any(name.upper().startswith(PREFIX) for name in variables):
        return {}
    # Loaded only when needed: it brings asyncio and more, which a device's memory notices.
    from pydantic_settings import EnvSettingsSource, SettingsError  # noqa: PLC0415

    class Variables(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in variables.items()}

    try:
        return Variables(
            model,  # type: ignore[arg-type]  # any model has the fields and the config that it reads
            env_prefix=PREFIX,
            env_nested_delimiter=NESTED,
        )()
    except SettingsError as error:
        cause = str(error.__cause__ or error)
        raise ConfigError(f"{source}: {_quoted(str(error))}: is no valid JSON: {cause}") from None


def _quoted(text: str) -> str:
    """The field that pydantic-settings names in its message."""
    return text.split('"')[1] if '"' in text else text


def _unknown(model: type[BaseModel], overrides: Mapping[str, str]) -> Values:
    """Overrides of no known table, which reading them as variables would ignore."""
    heads = {key: key.partition(".")[0] for key in overrides}
    return {head: overrides[key] for key, head in heads.items() if head.lower() not in model.model_fields}


def _merge(below: Values, above: Values) -> Values:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _describe(model: type[BaseModel], fault: ErrorDetails, sources: Mapping[str, Values]) -> str:
    keys, known = _resolve(model, fault["loc"])
    where = _origin(keys, sources)
    key = ".".join(str(part) for part in keys) or "as a whole"
    if fault["type"] == "missing":
        return f"{where}: {key}: is missing"
    if fault["type"] == "extra_forbidden":
        return f"{where}: {key}: is not a setting; {_nearest(str(keys[-1]), known)}"
    wrong = fault["msg"].removeprefix("Value error, ")
    wrong = wrong[0].lower() + wrong[1:]
    return f"{where}: {key}: {wrong}{_shown(fault)}"


def _shown(fault: ErrorDetails) -> str:
    """Show the wrong value, unless the message tells it or it is a whole table."""
    if fault["type"] == "value_error" or isinstance(fault["input"], dict):
        return ""
    shown = repr(fault["input"])
    return f", not {shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + '...'}"


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"


def _origin(keys: Location, sources: Mapping[str, Values]) -> str:
    """Name the source that had the last word on a key; the last one named is where it could be added."""
    for source, values in sources.items():
        found: Any = values
        for key in keys:
            found = found.get(key, None) if isinstance(found, dict) else None
        if found is not None:
            return source
    return list(sources)[-1]


def _resolve(model: type[BaseModel], location: Location) -> tuple[Location, list[str]]:
    """The keys of a fault's location, without pydantic's union tags, and the keys known beside the last."""
    models: list[type[BaseModel]] = [model]
    keys: list[int | str] = []
    known: list[str] = []
    for part in location:
        tagged = [m for m in models if _is_tagged(m, part)]
        if tagged and not any(part in m.model_fields for m in models):
            models = tagged
            continue
        keys.append(part)
        known = sorted({name for m in models for name in m.model_fields})
        fields = [m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields]
        models = [inner for field in fields for inner in _models_in(field.annotation)]
    return tuple(keys), known


def _is_tagged(model: type[BaseModel], tag: int | str) -> bool:
    return any(
        get_origin(field.annotation) is Literal and tag in get_args(field.annotation)
        for field in model.model_fields.values()
    )


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401  any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
