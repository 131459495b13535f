"""A copy of a model, built again from its description, as tracing and comparing need it."""

from collections.abc import Iterator
from typing import Any

from aggregator.keras.determinism import keras
from aggregator.keras.program import description
from aggregator.keras.weights import Model, layout_of, set_theta, theta_of
from host.errors import ConfigError, first_line

Config = dict[str, Any]


def rebuilt(model: Model) -> Model:
    """Copy a compiled model with its weights; raises ConfigError."""
    try:
        # Not in safe mode: what the model is made of is running in this process already.
        config = description(model)
        copy = keras.saving.deserialize_keras_object(config, safe_mode=False)
        # The loss itself goes over: Keras does not describe all of them in full (Huber's delta).
        compiled = model.get_compile_config() | {"loss": None}
        settings = keras.saving.deserialize_keras_object(compiled, safe_mode=False)
        copy.compile(**settings | {"loss": model.loss})
    except Exception as error:
        raise ConfigError(
            f"the model cannot be built again from its description: {first_line(error)}; "
            "register own layers and functions with keras.saving.register_keras_serializable"
        ) from error
    if layout_of(copy) != layout_of(model):
        raise ConfigError(
            "the model built again from its description has other weights; use layers of Keras only"
        )
    set_theta(copy, theta_of(model))
    return copy


def has_loops(model: Model) -> bool:
    """Whether a layer goes through time step by step."""
    return any("unroll" in part for part in parts(description(model)))


def parts(config: Any) -> Iterator[Config]:  # noqa: ANN401  any JSON
    """Every table of a description, outermost first."""
    if isinstance(config, dict):
        yield config
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from parts(value)
