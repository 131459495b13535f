"""The training program as a blob: the layout of theta, the runtime it is for, and that runtime's own text."""

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from broker.layout import Layout
from broker.messages import MAX_PROGRAM_BYTES
from host.errors import WireError

MAX_EXTENT = 1 << 31
MAX_DEPTH = 64


class Program(BaseModel):
    """What a device needs, besides theta, to train: nothing in it is code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Layout
    runtime: str = Field(min_length=1, max_length=300)
    body: str = Field(max_length=MAX_PROGRAM_BYTES, description="read by the runtime only")

    @field_validator("layout")
    @classmethod
    def _possible(cls, layout: Layout) -> Layout:
        shapes = layout.trainable + layout.state
        if any(not 0 <= extent < MAX_EXTENT for shape in shapes for extent in shape):
            raise ValueError("a weight's extent is negative or too large")
        return layout

    def to_bytes(self) -> bytes:
        """UTF-8 JSON, the same bytes for the same program; raises WireError above 8 MiB."""
        payload = self.model_dump_json().encode()
        _check_size(payload)
        return payload

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Program":
        """Read a program; raises WireError and nothing else."""
        _check_size(payload)
        try:
            return cls.model_validate_json(payload)
        except ValidationError as error:
            raise WireError(_first_fault("program", error)) from None


class KerasBody(BaseModel):
    """The body of a program for the runtime `keras`: two Keras configurations, and no code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: dict[str, Any] = Field(description="what model.to_json() says")
    compile: dict[str, Any] = Field(description="what model.get_compile_config() says")

    @field_validator("model", "compile")
    @classmethod
    def _only_keras(cls, config: dict[str, Any]) -> dict[str, Any]:
        for part in _parts(config):
            _check_part(part)
        return config

    @property
    def learning_rate(self) -> float | None:
        """As the task compiled it; None when that is a schedule."""
        rate = self.compile["optimizer"]["config"].get("learning_rate")
        return float(rate) if isinstance(rate, int | float) else None

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, body: str | bytes) -> "KerasBody":
        """Read a body; raises WireError when it is none, or when it would need code."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise WireError(_first_fault("Keras program", error)) from None


# Of Keras, only what models are made of: its helpers download files and load saved objects.
_MODULES = frozenset(
    {"activations", "constraints", "dtype_policies", "initializers", "layers", "losses"}
    | {"metrics", "models", "ops", "optimizers", "random", "regularizers"}
)
# These layers run or load what is not a configuration.
_REFUSED_CLASSES = frozenset(
    {"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "FlaxLayer", "JaxLayer"}
)


def _check_part(part: dict[str, Any]) -> None:
    name, module, registered = (part.get(key) for key in ("class_name", "module", "registered_name"))
    if isinstance(name, str) and name in _REFUSED_CLASSES:
        raise ValueError(f"{name} is code, which never travels: express it with layers of Keras")
    custom = isinstance(registered, str) and ">" in registered
    if custom or (isinstance(module, str) and not _is_keras(module)):
        raise ValueError(f"{registered or name} is not part of Keras: code never travels, use what Keras has")


def _is_keras(module: str) -> bool:
    if module in {"keras", "builtins"}:  # of builtins are Keras' own functions, by name
        return True
    package, *inner = module.removeprefix("keras.src.").removeprefix("keras.").split(".")
    return module.startswith("keras.") and package in _MODULES and "" not in inner


def _parts(config: Any, depth: int = 0) -> Iterator[dict[str, Any]]:  # noqa: ANN401  any JSON
    if depth > MAX_DEPTH:
        raise ValueError(f"configuration is nested deeper than {MAX_DEPTH} levels")
    if isinstance(config, dict):
        yield config
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _parts(value, depth + 1)


def has_batch_statistics(model: dict[str, Any]) -> bool:
    """Whether a layer that is trained, in Keras' description of a model, normalises by its batch."""
    return any(
        part.get("class_name") == "BatchNormalization" and part["config"].get("trainable", True)
        for part in _parts(model)
    )


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_PROGRAM_BYTES:
        raise WireError(f"program of {len(payload)} bytes, at most {MAX_PROGRAM_BYTES} are read")


def _first_fault(what: str, error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(level) for level in fault["loc"]) or "as a whole"
    return f"{what}, {where}: {fault['msg']}"[:300]
