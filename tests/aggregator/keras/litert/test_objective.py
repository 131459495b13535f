from typing import Any

import numpy as np
import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.litert.interpreting import Interpreted
from aggregator.keras.weights import set_theta, theta_of
from tests.aggregator.keras.litert.in_litert import batches, padded, trained_in_keras, trained_in_litert
from tests.aggregator.keras.litert.small_models import compiled

L, K = keras.layers, keras.losses
BATCH = 5


@keras.saving.register_keras_serializable("midge-tests")  # type: ignore[untyped-decorator]
def halves_of_softmax(x: Any) -> Any:  # noqa: ANN401
    return 0.5 * keras.ops.softmax(x)


@pytest.mark.parametrize(
    ("outputs", "activation", "loss", "metrics"),
    [
        (3, "softmax", "sparse_categorical_crossentropy", ("accuracy",)),
        (3, "softmax", "categorical_crossentropy", ("accuracy", "mse")),
        (1, "sigmoid", "binary_crossentropy", ("accuracy", "mae")),
        (3, "linear", K.SparseCategoricalCrossentropy(from_logits=True), ("accuracy",)),
        (
            3,
            "linear",
            K.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            ("categorical_accuracy",),
        ),
        (3, "linear", K.BinaryCrossentropy(from_logits=True), (keras.metrics.BinaryAccuracy(threshold=0.0),)),
        # No logits to be found behind these outputs.
        (3, halves_of_softmax, "sparse_categorical_crossentropy", ("accuracy",)),
        (3, halves_of_softmax, "categorical_crossentropy", ()),
        (2, "linear", "mean_squared_error", ("mean_absolute_error",)),
        (2, "linear", "mean_absolute_error", ("mean_squared_error",)),
        (1, "linear", K.Huber(0.3), ()),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", str(value))),
)
def test_a_loss_and_its_metrics_are_those_of_keras_on_the_real_rows(
    outputs: int,
    activation: Any,  # noqa: ANN401
    loss: Any,  # noqa: ANN401
    metrics: tuple[Any, ...],
) -> None:
    keras.utils.set_random_seed(1)
    layers = [keras.Input((4,)), L.Dense(6, activation="tanh"), L.Dense(outputs, activation=activation)]
    model = compiled(keras.Sequential(layers), loss=loss, metrics=metrics)
    body = export_litert(model, batch=BATCH)
    start, data = theta_of(model), batches(model, body)
    _compare_evaluation(body, model, data[0])

    found, expected = trained_in_litert(body, start, data), trained_in_keras(model, data)
    moved = np.abs(expected - start).max()
    assert moved > 1e-2
    assert np.abs(found - expected).max() <= 1e-4 * moved


def _compare_evaluation(body: Any, model: Any, batch: Any) -> None:  # noqa: ANN401
    x, y = (part[:3] for part in batch)
    sums = Interpreted(body.tflite).run("evaluate", theta=theta_of(model), **padded(body, (x, y)))
    assert sums["weight"] == [3]
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(body.metrics) == set(expected)
    np.testing.assert_allclose(sums["sums"] / 3, [expected[name] for name in body.metrics], rtol=1e-5)


def test_a_sequence_of_labels_counts_as_keras_counts_it() -> None:
    layers = [keras.Input((4, 2)), L.Dense(3, activation="softmax")]
    model = compiled(keras.Sequential(layers))
    body = export_litert(model, batch=BATCH)
    assert body.y_shape == (4,)
    _compare_evaluation(body, model, batches(model, body)[0])


def test_what_cannot_be_told_from_numbers_stays_finite() -> None:
    model = compiled(keras.Sequential([keras.Input((2,)), L.Dense(3, activation="softmax")]))
    set_theta(model, 200 * np.arange(9, dtype=np.float32))
    body = export_litert(model, batch=2)
    x, y = np.ones((2, 2), np.float32), np.zeros(2, np.int32)
    inputs = {"theta": theta_of(model), "x": x, "y": y}
    certain = Interpreted(body.tflite).run("grad", **inputs, weight=np.ones(2, np.float32))
    np.testing.assert_allclose(certain["loss"], model.evaluate(x, y, verbose=0, return_dict=True)["loss"])
    nobody = Interpreted(body.tflite).run("grad", **inputs, weight=np.zeros(2, np.float32))
    assert nobody["loss"] == [0]
    assert not nobody["grad"].any()
