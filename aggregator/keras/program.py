"""A compiled model as a training program, which is data only, and the model back from it."""

import json
from typing import Any

from pydantic import ValidationError

from aggregator.keras.determinism import keras
from aggregator.keras.weights import Model, layout_of
from broker.program import KerasBody, Program
from host.errors import ConfigError, first_line

KERAS = "keras"
LITERT = "litert"


def description(model: Model) -> dict[str, Any]:
    """What Keras saves of a model besides its weights and what it was compiled with."""
    config: dict[str, Any] = json.loads(model.to_json())
    config.pop("compile_config", None)
    return config


def export(model: Model) -> Program:
    """Describe the model for devices; raises ConfigError when it has parts that only code describes."""
    try:
        body = KerasBody(model=description(model), compile=model.get_compile_config())
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"the model cannot travel: {fault}") from None
    return Program(layout=layout_of(model), runtime=KERAS, body=body.to_json())


def export_for_litert(model: Model, batch: int) -> Program:
    """Convert the model and its training for LiteRT.

    Raises ConfigError naming what does not convert, what to use instead, and the other runtime.
    """
    # The converter and LiteRT are loaded only for runs that ask for them.
    from aggregator.keras.litert.export import export_litert  # noqa: PLC0415

    try:
        body = export_litert(model, batch=batch)
    except ConfigError as error:
        raise ConfigError(f'{error}; or set runtime = "keras", for devices with TensorFlow') from error
    return Program(layout=layout_of(model), runtime=LITERT, body=body.to_json())


def rebuilt(program: Program) -> Model:
    """Build the model of a program as devices do, to fail here rather than there; raises ConfigError."""
    body = KerasBody.from_json(program.body)
    try:
        copy = keras.saving.deserialize_keras_object(body.model, safe_mode=True)
        copy.compile_from_config(body.compile)
    except Exception as error:
        raise ConfigError(
            f"the model cannot be built again from its description: {first_line(error)}"
        ) from error
    if layout_of(copy) != program.layout:
        raise ConfigError(
            "the model built again from its description has other weights; use layers of Keras only"
        )
    return copy
