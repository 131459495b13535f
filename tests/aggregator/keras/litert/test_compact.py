from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]

from aggregator.keras.determinism import keras
from aggregator.keras.litert import conversion
from aggregator.keras.litert.compact import ALIGNMENT, without_names
from aggregator.keras.litert.export import export_litert
from aggregator.keras.litert.operators import operators_in
from aggregator.keras.weights import theta_of
from broker.litert import LiteRTBody
from tests.aggregator.keras.litert.in_litert import batches, trained_in_litert
from tests.aggregator.keras.litert.small_models import compiled

L = keras.layers
BATCH = 4


@pytest.fixture(scope="module")
def model() -> Any:  # noqa: ANN401
    layers = [keras.Input((8, 8, 1)), L.Conv2D(2, 3, activation="relu"), L.MaxPooling2D(), L.Flatten()]
    return compiled(keras.Sequential([*layers, L.Dense(3, activation="softmax")]))


@pytest.fixture(scope="module")
def converted(model: Any) -> tuple[bytes, LiteRTBody]:  # noqa: ANN401
    """The file as the converter gives it, and what is exported."""
    with patch.object(conversion, "without_names", wraps=without_names) as spy:
        body = export_litert(model, batch=BATCH)
    return spy.call_args.args[0], body


def test_what_is_exported_has_no_names_and_does_the_same(
    model: Any,  # noqa: ANN401
    converted: tuple[bytes, LiteRTBody],
) -> None:
    named, body = converted
    assert set(names(body.tflite)) == {None}
    assert None not in names(named)
    assert len(body.tflite) < 0.8 * len(named)
    assert operators_in(body.tflite) == operators_in(named)
    data, start = batches(model, body), theta_of(model)
    before, after = (
        trained_in_litert(body.model_copy(update={"tflite": tflite}), start, data)
        for tflite in (named, body.tflite)
    )
    np.testing.assert_array_equal(after, before)


def test_constants_lie_where_every_processor_can_read_them(converted: tuple[bytes, LiteRTBody]) -> None:
    tflite = np.frombuffer(converted[1].tflite, np.uint8)
    file = schema.Model.GetRootAs(tflite)
    held = [file.Buffers(index).DataAsNumpy() for index in range(file.BuffersLength())]
    places = [data.ctypes.data - tflite.ctypes.data for data in held if np.size(data) > 1]
    assert len(places) > 10
    assert {place % ALIGNMENT for place in places} == {0}


def names(tflite: bytes) -> list[bytes | None]:
    file = schema.Model.GetRootAs(tflite)
    graphs = [file.Subgraphs(index) for index in range(file.SubgraphsLength())]
    return [graph.Tensors(index).Name() for graph in graphs for index in range(graph.TensorsLength())]
