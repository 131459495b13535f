from pathlib import Path

import numpy as np
import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.weights import theta_of
from benchmarks.cnn import cnn
from benchmarks.equality import BATCH, letters
from tests.aggregator.keras.litert.in_litert import difference, trained_in_keras, trained_in_litert

LETTERS = Path(__file__).parents[4].parent / "shared/data/letters"


def test_ten_steps_of_the_mnist_cnn_are_those_of_keras() -> None:
    model = cnn(28, keras.optimizers.SGD(0.05))
    apart, moved = difference(export_litert(model, batch=BATCH), model)
    assert moved > 1e-2
    assert apart <= 1e-4


@pytest.mark.skipif(not LETTERS.exists(), reason="the letters are not here")
def test_ten_steps_of_the_letters_cnn_are_those_of_keras_on_letters() -> None:
    # On random images Keras itself parts by 1e-3 from a start that is rounded otherwise: docs/models.md.
    model, data = cnn(100, keras.optimizers.SGD(0.05)), letters(LETTERS)
    body, start = export_litert(model, batch=BATCH), theta_of(model)
    found, expected = trained_in_litert(body, start, data), trained_in_keras(model, data)
    moved = np.abs(expected - start).max()
    assert moved > 1e-2
    assert np.abs(found - expected).max() <= 1e-4 * moved
