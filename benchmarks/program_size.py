"""What a model costs to send as a training program: bytes of the `.tflite`, and of all that travels.

Prints a line for each model: the file as TensorFlow's converter gives it, without the names of its tensors,
that deflated, and the program in JSON that devices download, beside what it would be had it the converter's
file as base64. Then a JSON line. Batches of 32; the weights travel apart, four bytes each.
"""

import base64
import json
import zlib
from typing import Any
from unittest.mock import patch

from aggregator.keras.determinism import be_deterministic, keras
from aggregator.keras.litert import conversion
from aggregator.keras.litert.compact import without_names
from aggregator.keras.program import export_for_litert
from benchmarks.cnn import cnn
from benchmarks.equality import BATCH
from broker.litert import LiteRTBody

COLUMNS = ("converted", "without names", "deflated", "program as it was", "program")


def classifier(*layers: Any, shape: tuple[int, ...], optimizer: str = "sgd") -> Any:  # noqa: ANN401  Keras ships no types
    model = keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(10, activation="softmax")])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def models() -> dict[str, Any]:
    layers = keras.layers
    return {
        "softmax regression 784-10": classifier(shape=(784,)),
        "dense 784-128-10": classifier(layers.Dense(128, activation="relu"), shape=(784,)),
        "MNIST CNN": cnn(28, "sgd"),
        "letters CNN": cnn(100, "sgd"),
        "LSTM of 32, 128 steps, Adam": classifier(layers.LSTM(32), shape=(128, 3), optimizer="adam"),
    }


def sizes(model: Any) -> dict[str, int]:  # noqa: ANN401
    with patch.object(conversion, "without_names", wraps=without_names) as spy:
        program = export_for_litert(model, BATCH)
    converted = spy.call_args_list[0].args[0]
    tflite = LiteRTBody.from_json(program.body).tflite
    whole, carried = len(program.to_bytes()), len(json.loads(program.body)["tflite"])
    as_it_was = whole - carried + len(base64.b64encode(converted))
    deflated = len(zlib.compress(tflite, 9))
    return dict(zip(COLUMNS, (len(converted), len(tflite), deflated, as_it_was, whole), strict=True))


def main() -> None:
    be_deterministic()
    results = {}
    print(f"{'':28}" + "".join(f"{name:>20}" for name in COLUMNS))
    for name, model in models().items():
        results[name] = sizes(model)
        print(f"{name:28}" + "".join(f"{size:20,}" for size in results[name].values()))
    print(json.dumps({"benchmark": "program_size", "bytes": results}))


if __name__ == "__main__":
    main()
