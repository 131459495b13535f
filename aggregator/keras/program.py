"""A compiled model as a training program: data only, and proof that it can be built again from it."""

import json
from copy import deepcopy

from pydantic import ValidationError

from aggregator.keras.determinism import keras
from aggregator.keras.weights import Model, layout_of
from broker.program import KerasBody, Program
from host.errors import ConfigError

KERAS = "keras"
LITERT = "litert"


def export(model: Model) -> Program:
    """Describe the model for devices; raises ConfigError when it has parts that only code describes."""
    config = json.loads(model.to_json())
    # Said once, in the body's own field.
    config.pop("compile_config", None)
    try:
        body = KerasBody(model=config, compile=model.get_compile_config())
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"the model cannot travel: {fault}") from None
    program = Program(layout=layout_of(model), runtime=KERAS, body=body.to_json())
    _rehearse(body, program)
    return program


def export_for_litert(model: Model, batch: int) -> Program:
    """Convert the model and its training for LiteRT; raises ConfigError naming what does not convert."""
    # The converter and LiteRT are loaded only for runs that ask for them.
    from aggregator.keras.litert.export import export_litert  # noqa: PLC0415

    body = export_litert(model, batch=batch)
    return Program(layout=layout_of(model), runtime=LITERT, body=body.to_json())


def _rehearse(body: KerasBody, program: Program) -> None:
    """Do what devices will do, to fail here rather than there."""
    try:
        copy = keras.saving.deserialize_keras_object(deepcopy(body.model), safe_mode=True)
        copy.compile_from_config(deepcopy(body.compile))  # Keras writes into it
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"the model cannot be built again from its description: {line}") from error
    if layout_of(copy) != program.layout:
        raise ConfigError(
            "the model built again from its description has other weights; use layers of Keras only"
        )
