"""Several inputs are columns of one, cut inside the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.litert.interpreting import Interpreted
from aggregator.keras.program import export, rebuilt
from aggregator.keras.weights import theta_of
from broker.litert import LiteRTBody
from tests.aggregator.keras.litert.in_litert import difference
from tests.aggregator.keras.litert.small_models import compiled

L = keras.layers
BATCH = 4


@pytest.fixture(scope="module")
def joined() -> Any:  # noqa: ANN401
    """Four readings, a picture of 6 x 6 points and a series of 5 steps, each with a branch of its own."""
    keras.utils.set_random_seed(4)
    every = keras.Input((50,))
    readings = L.Dense(4, activation="tanh")(every[:, :4])
    picture = L.Conv2D(2, 3, activation="relu")(L.Reshape((6, 6, 1))(every[:, 4:40]))
    series = L.GRU(3)(L.Reshape((5, 2))(keras.ops.split(every, [40], axis=1)[1]))
    branches = L.Concatenate()([readings, L.Flatten()(picture), series])
    return compiled(keras.Model(every, L.Dense(3, activation="softmax")(branches)))


@pytest.fixture(scope="module")
def body(joined: Any) -> LiteRTBody:  # noqa: ANN401
    return export_litert(joined, batch=BATCH)


def test_branches_on_parts_of_one_input_train_as_in_keras(joined: Any, body: LiteRTBody) -> None:  # noqa: ANN401
    # Rebuilt as a device with Keras does it; and `joined` stays as it is.
    copy = rebuilt(export(joined))
    copy.set_weights(joined.get_weights())
    apart, moved = difference(body, copy)
    assert moved > 1e-2
    assert apart <= 1e-4


# Keras, on saving, asks arrays for what numpy 2 gives otherwise.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_branches_on_parts_of_one_input_are_saved_and_loaded(
    joined: Any,  # noqa: ANN401
    body: LiteRTBody,
    tmp_path: Path,
) -> None:
    joined.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(BATCH, 50)).astype(np.float32)
    expected = Interpreted(body.tflite).run("infer", theta=theta_of(joined), x=x)["output"]
    np.testing.assert_allclose(loaded(x), expected, atol=1e-6)
