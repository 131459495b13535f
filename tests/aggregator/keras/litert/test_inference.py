"""Models with their weights inside, that only infer."""

import numpy as np
import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.litert import inference
from aggregator.keras.litert.inference import SIGNATURE, export_inference
from aggregator.keras.litert.interpreting import Interpreted
from aggregator.keras.litert.operators import operators_in
from aggregator.keras.weights import Model, set_theta, theta_of
from host.errors import ConfigError

LAYERS = {
    "image": [
        keras.Input((8, 8, 1), dtype="uint8"),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(4, 3, activation="gelu"),
        keras.layers.BatchNormalization(),
        keras.layers.MaxPooling2D(),
        keras.layers.Dropout(0.5),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    ],
    "sequence": [keras.Input((5, 2)), keras.layers.LSTM(4), keras.layers.Dense(3)],
    "words": [
        keras.Input((4,), dtype="int32"),
        keras.layers.Embedding(10, 3),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(3),
    ],
}


def built(kind: str) -> Model:
    model = keras.Sequential(LAYERS[kind])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=kind != "image"))
    theta = theta_of(model)
    # Not as they begin: a bias of zero hides that it is missing.
    set_theta(model, np.abs(theta) + np.random.default_rng(3).random(theta.size, np.float32))
    return model


@pytest.mark.parametrize("kind", sorted(LAYERS))
def test_it_gives_what_keras_gives_one_example_at_a_time(kind: str) -> None:
    model = built(kind)
    program = Interpreted(export_inference(model), (SIGNATURE,))
    dtype = model.inputs[0].dtype
    for seed in range(3):
        values = np.random.default_rng(seed).integers(0, 10, (1, *model.input_shape[1:])).astype(dtype)
        expected = np.asarray(model(values, training=False))
        np.testing.assert_allclose(program.run(SIGNATURE, x=values)["output"], expected, rtol=1e-4, atol=1e-6)


def test_the_weights_are_in_the_file_and_the_operators_few() -> None:
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(50, activation="relu")])
    model.compile("sgd", "mse")
    tflite = export_inference(model)
    assert theta_of(model)[:5000].reshape(100, 50).T.tobytes() in tflite
    assert operators_in(tflite) == {"FULLY_CONNECTED": 1}


def test_a_convolution_is_an_operator_of_its_own() -> None:
    assert {"CONV_2D": 1, "MAX_POOL_2D": 1}.items() <= operators_in(export_inference(built("image"))).items()


def test_what_differs_from_keras_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("words")
    monkeypatch.setattr(inference, "theta_of", lambda _: 1.01 * theta_of(model))
    with pytest.raises(ConfigError, match="differs from Keras' by"):
        export_inference(model)
