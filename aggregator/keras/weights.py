"""A model's weights as theta and back."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from aggregator.keras.determinism import keras
from broker.layout import Layout, Theta
from host.errors import ConfigError

Model = Any  # Keras ships no types


def layout_of(model: Model) -> Layout:
    """Shapes of the weights; raises ConfigError when one is not float32."""
    trainable, state = weights_of(model)
    return Layout(
        trainable=tuple(tuple(weight.shape) for weight in trainable),
        state=tuple(tuple(weight.shape) for weight in state),
    )


def theta_of(model: Model) -> Theta:
    """Take the weights out: float32[P]."""
    trainable, state = weights_of(model)
    return layout_of(model).flatten([np.asarray(weight) for weight in trainable + state])


def set_theta(model: Model, theta: Theta) -> None:
    """Put float32[P] in; raises ValueError when it has not the model's length."""
    trainable, state = weights_of(model)
    for weight, value in zip(trainable + state, layout_of(model).unflatten(theta), strict=True):
        weight.assign(value)
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
            # The traced functions hold the old statistics as constants.
            model.train_function = model.test_function = model.predict_function = None


def weights_of(model: Model) -> tuple[list[Any], list[Any]]:
    """Trainable weights and the other state, in the order of theta; raises ConfigError for one not float32.

    Normalization's counter of what it adapted to takes no part in its mathematics and stays behind.
    """
    state = [w for w in model.non_trainable_weights if not (w.name == "count" and w.dtype.startswith("int"))]
    for weight in [*model.trainable_weights, *state]:
        if weight.dtype != "float32":
            raise ConfigError(
                f"weight {weight.path} is {weight.dtype}, only float32 travels; set dtype='float32'"
            )
    return list(model.trainable_weights), state


def layers_of(model: Model) -> Iterator[Any]:
    """Every layer, also those inside of layers."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from layers_of(layer)
