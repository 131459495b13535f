from itertools import count
from typing import Any

import numpy as np
import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.litert.gate import Gate
from aggregator.keras.litert.objective import loss_of
from aggregator.keras.litert.samples import Samples
from aggregator.keras.weights import set_theta
from broker.litert import LiteRTBody
from host.errors import ConfigError
from tests.aggregator.keras.litert.small_models import compiled

BATCH = 4


def build(activation: str = "tanh", loss: str = "mse", momentum: float = 0.9, regularizer: Any = None) -> Any:  # noqa: ANN401
    layers = [
        keras.Input((3,)),
        keras.layers.Dense(5, activation=activation, kernel_regularizer=regularizer, name="hidden"),
        keras.layers.Dense(2, name="last"),
    ]
    model = compiled(keras.Sequential(layers), keras.optimizers.SGD(0.1, momentum), loss, ("mae",))
    set_theta(model, np.random.default_rng(1).normal(size=model.count_params()).astype(np.float32))
    return model


@pytest.fixture(scope="module")
def program() -> LiteRTBody:
    return export_litert(build(), batch=BATCH)


def check(program: LiteRTBody, model: Any) -> None:  # noqa: ANN401
    gate = Gate(model, Samples(model, loss_of(model)), BATCH)
    gate.check(program.tflite, program.optimizer_size, exact_padding=True)


def test_a_program_of_the_model_itself_passes(program: LiteRTBody) -> None:
    check(program, build())


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ({"activation": "sigmoid"}, "the output"),
        ({"loss": "mae"}, "metric loss"),
        ({"regularizer": keras.regularizers.L2(1e-2)}, "metric loss"),
        ({"momentum": 0.5}, "last/.*: the step"),
    ],
)
def test_a_program_of_another_model_is_refused_with_where_it_differs(
    program: LiteRTBody, model: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=f"{complaint}.* differs from Keras"):
        check(program, build(**model))


def wrong_at_first(times: int) -> Any:  # noqa: ANN401
    """Keras' gradient, with another one of the first layer so many times."""
    right, calls = Gate._gradient, count()

    def gradient(gate: Gate, x: Any, y: Any) -> Any:  # noqa: ANN401
        found = right(gate, x, y)
        if next(calls) < times:
            found[:20] *= 1.01
        return found

    return gradient


def test_a_wrong_gradient_is_named_by_the_weight_nearest_to_the_output(
    program: LiteRTBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "_gradient", wrong_at_first(2))
    with pytest.raises(ConfigError, match="hidden/bias: the gradient"):
        check(program, build())


def test_one_step_in_three_may_fall_to_the_other_side_of_a_corner(
    program: LiteRTBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gate, "_gradient", wrong_at_first(1))
    check(program, build())


def test_bytes_that_are_no_program_are_refused() -> None:
    model = build()
    with pytest.raises(ConfigError, match="LiteRT does not run"):
        Gate(model, Samples(model, loss_of(model)), BATCH).check(b"x" * 100, 1, exact_padding=True)
