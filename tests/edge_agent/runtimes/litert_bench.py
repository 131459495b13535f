"""Keras models with their training programs, and examples for them."""

from typing import Any

import numpy as np

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.weights import layout_of, theta_of
from broker.litert import LiteRTBody
from broker.messages import TrainingSettings
from edge_agent.data.examples import Examples
from edge_agent.runtimes.litert import LiteRTRuntime

BATCH = 8
COUNT = 20
SETTINGS = TrainingSettings(epochs=2, batch_size=BATCH, learning_rate=0.05, seed=3)
CROSS_ENTROPY = "sparse_categorical_crossentropy"


class Bench:
    """A Keras model and its training program."""

    def __init__(self, *layers: Any, optimizer: Any = "sgd", shape: tuple[int, ...] = (4,)) -> None:  # noqa: ANN401
        keras.utils.set_random_seed(2)
        self.model = keras.Sequential([keras.Input(shape), *layers])
        loss = "mse" if layers[-1].activation is keras.activations.linear else CROSS_ENTROPY
        self.model.compile(optimizer, loss, metrics=[] if loss == "mse" else ["accuracy"])
        self.theta, self.layout = theta_of(self.model), layout_of(self.model)
        self.body: LiteRTBody = export_litert(self.model, batch=BATCH)

    @property
    def program(self) -> bytes:
        return self.body.to_json().encode()

    def runtime(self) -> LiteRTRuntime:
        runtime = LiteRTRuntime()
        runtime.load(self.program, self.layout)
        return runtime


def classifier(optimizer: Any) -> Bench:  # noqa: ANN401
    return Bench(
        keras.layers.Conv2D(2, 3, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
        shape=(6, 6, 1),
        optimizer=optimizer,
    )


def images(count: int = COUNT) -> Examples:
    random = np.random.default_rng(4)
    y = random.integers(0, 3, count).astype(np.int32)
    return Examples((random.normal(size=(count, 6, 6, 1)) + y[:, None, None, None]).astype(np.float32), y)
