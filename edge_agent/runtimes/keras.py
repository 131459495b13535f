"""The runtime for devices that have TensorFlow: Keras trains, on the processor, bit by bit repeatable."""

import math
import os
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from host.quiet import stderr_closed

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Of all that TensorFlow says of itself, only what ends the process.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with stderr_closed():
    import keras
    import tensorflow as tf

from broker.layout import Layout, Theta
from broker.messages import TrainingSettings
from broker.program import KerasBody
from edge_agent.data.examples import Examples
from edge_agent.runtimes.base import MetricSums, OptimizerState, Progress, Trained
from edge_agent.runtimes.order import passes, rows_in_all
from host.errors import WireError

EVALUATION_BATCH = 64


class KerasRuntime:
    """Trains a compiled Keras model as `model.fit(shuffle=False)` does on rows in a seeded order."""

    def __init__(self) -> None:
        _be_deterministic()
        self._loaded: bytes | None = None

    def load(self, program: bytes, layout: Layout) -> None:
        """Build and compile the model; the same program again costs nothing."""
        if program == self._loaded:
            return
        self._loaded = None
        keras.backend.clear_session()
        self._body = KerasBody.from_json(program)
        self._model = _build(self._body, layout)
        self._layout = layout
        self._settled: bytes | None = None
        self._compile(constant_rate=False)
        self._loaded = program

    def train(
        self,
        theta: Theta,
        examples: Examples,
        settings: TrainingSettings,
        optimizer: OptimizerState,
        progress: Progress,
    ) -> Trained:
        """Fit epoch by epoch, all `steps` counting as one epoch; metrics are those of the last epoch.

        A short last batch counts as Keras counts it: its mean moves the weights like any other batch's.
        """
        keras.utils.set_random_seed(settings.seed % (1 << 32))
        self._set_rate(settings.learning_rate)
        self._set_optimizer(optimizer, settings.learning_rate)
        self._set_weights(theta)
        _seed_layers(self._model, settings.seed)
        done, in_all = 0, rows_in_all(len(examples.x), settings)
        for rows in passes(len(examples.x), settings):
            counted = _counting(done, in_all, settings.batch_size, progress)
            batches = Batches(examples, settings.batch_size, rows)
            history = self._model.fit(batches, shuffle=False, verbose=0, callbacks=[counted])
            done += len(rows)
        metrics = {
            name: (float(values[-1]) * len(rows), float(len(rows)))
            for name, values in history.history.items()
        }
        kept = [np.asarray(variable) for variable in self._model.optimizer.variables]
        return Trained(self._weights(), metrics, min(in_all, len(examples.x)), kept)

    def evaluate(self, theta: Theta, examples: Examples) -> MetricSums:
        """Mean times count of each compiled metric.

        They add up for metrics that are means over examples; of others (AUC, RMSE) they are an estimate.
        """
        self._set_weights(theta)
        means = self._model.evaluate(Batches(examples, EVALUATION_BATCH), verbose=0, return_dict=True)
        return {name: (float(mean) * len(examples.x), float(len(examples.x))) for name, mean in means.items()}

    def _compile(self, *, constant_rate: bool) -> None:
        """Compile as the task did; a constant learning rate has to replace a schedule from the start."""
        config = deepcopy(self._body.compile)  # Keras writes into it
        if constant_rate:
            config["optimizer"]["config"]["learning_rate"] = 1.0
        try:
            self._model.compile_from_config(config)
        except _BAD_CONFIG as error:
            raise WireError(f"Keras program cannot be compiled: {_last_line(error)}") from None
        self._fresh = [np.asarray(variable) for variable in self._model.optimizer.variables]
        self._constant_rate = constant_rate

    def _set_rate(self, rate: float | None) -> None:
        scheduled = isinstance(self._body.compile["optimizer"]["config"].get("learning_rate"), dict)
        if scheduled and self._constant_rate != (rate is not None):
            self._compile(constant_rate=rate is not None)

    def _set_optimizer(self, kept: OptimizerState, rate: float | None) -> None:
        """Take back slots and step count, or begin afresh: also when they are another optimizer's."""
        fits = [array.shape for array in kept] == [array.shape for array in self._fresh]
        for variable, value in zip(
            self._model.optimizer.variables, kept if fits else self._fresh, strict=True
        ):
            variable.assign(value)
        if rate is not None:
            self._model.optimizer.learning_rate = rate

    def _set_weights(self, theta: Theta) -> None:
        for weight, value in zip(_weights(self._model), self._layout.unflatten(theta), strict=True):
            weight.assign(value)
        self._settle(theta)

    def _settle(self, theta: Theta) -> None:
        """Have Normalization layers take their new statistics, which Keras traces as constants."""
        layers = [layer for layer in _layers(self._model) if isinstance(layer, keras.layers.Normalization)]
        state = theta[self._layout.trainable_size :].tobytes() if layers else b""
        if state == self._settled:
            return
        for layer in layers:
            layer.finalize_state()
        self._model.train_function = self._model.test_function = None
        self._settled = state

    def _weights(self) -> Theta:
        return self._layout.flatten([np.asarray(weight) for weight in _weights(self._model)])


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """Batches of examples, in the order of `rows`; no copy of all examples is made."""

    def __init__(self, examples: Examples, size: int, rows: NDArray[np.int64] | None = None) -> None:
        super().__init__()
        self._examples, self._size = examples, size
        self._rows = np.arange(len(examples.x)) if rows is None else rows

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._size)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        rows = self._rows[index * self._size : (index + 1) * self._size]
        return self._examples.x[rows], self._examples.y[rows]


_BAD_CONFIG = (ValueError, TypeError, KeyError, AttributeError, ImportError, NotImplementedError)


def _be_deterministic() -> None:
    """One thread in and between operations; Keras on more gives other bits from run to run."""
    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()


def _build(body: KerasBody, layout: Layout) -> Any:  # noqa: ANN401  Keras ships no types
    try:
        model = keras.saving.deserialize_keras_object(deepcopy(body.model), safe_mode=True)
        weights = _weights(model)
    except (*_BAD_CONFIG, ValidationError) as error:
        raise WireError(f"Keras program cannot be built: {_last_line(error)}") from None
    shapes = tuple(tuple(weight.shape) for weight in weights)
    if shapes != layout.trainable + layout.state or len(model.trainable_weights) != len(layout.trainable):
        raise WireError(
            "Keras program has other weights than its layout says; is this another version of Keras?"
        )
    return model


def _weights(model: Any) -> list[Any]:  # noqa: ANN401
    """Weights in the order of theta; raises ValueError at one that is not float32.

    Normalization's counter of what it adapted to takes no part in its mathematics and stays behind.
    """
    state = [w for w in model.non_trainable_weights if not (w.name == "count" and w.dtype.startswith("int"))]
    weights = [*model.trainable_weights, *state]
    for weight in weights:
        if weight.dtype != "float32":
            raise ValueError(f"weight {weight.path} is {weight.dtype}, theta holds float32 only")
    return weights


def _layers(model: Any) -> Iterator[Any]:  # noqa: ANN401
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _layers(layer)


def _seed_layers(model: Any, seed: int) -> None:  # noqa: ANN401
    """Give Dropout and its like, which go on from call to call, a beginning."""
    random = np.random.default_rng((seed, 1))
    for variable in model.non_trainable_variables:
        if variable.name == "seed_generator_state":
            variable.assign([random.integers(1 << 31), 0])


def _counting(done: int, in_all: int, batch_size: int, progress: Progress) -> Any:  # noqa: ANN401
    """Call `progress` with the part of all rows that is done."""

    def on_batch(batch: int, **_: object) -> None:
        progress(min(1.0, (done + (batch + 1) * batch_size) / in_all))

    return keras.callbacks.LambdaCallback(on_train_batch_end=on_batch)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
