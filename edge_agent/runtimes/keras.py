"""The runtime for devices that have TensorFlow: Keras trains, on the processor, bit by bit repeatable."""

import math
import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
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
from broker.program import KerasBody, has_batch_statistics
from edge_agent.data.examples import Examples
from edge_agent.runtimes.base import MetricSums, OptimizerState, Progress, Trained
from edge_agent.runtimes.order import Course
from host.errors import ConfigError, WireError

EVALUATION_BATCH = 64


class KerasRuntime:
    """Trains a compiled Keras model as `model.fit(shuffle=False)` does on rows in a seeded order."""

    honours = frozenset({"proximal", "clip_norm", "schedule", "short_batch"})

    def __init__(self) -> None:
        _be_deterministic()
        self._loaded: tuple[bytes, Layout] | None = None

    def load(self, program: bytes, layout: Layout) -> None:
        """Build and compile the model; the same program again costs nothing."""
        if (program, layout) == self._loaded:
            return
        self._loaded = None
        keras.backend.clear_session()
        self._compiled: _Compiled | None = None
        self._body = KerasBody.from_json(program)
        self._model = _build(self._body, layout)
        self._layout = layout
        self._batch_statistics = has_batch_statistics(self._body.model)
        self._anchors = [tf.Variable(weight.value) for weight in self._model.trainable_weights]
        self._settled: bytes | None = None
        self._compile(_Compiled())
        self._loaded = (program, layout)

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
        Where the model has batch statistics, it is refilled or dropped as `short_batch` says. The loss is
        without the proximal term.
        """
        course = Course(len(examples.x), settings, full_batches=self._batch_statistics)
        base = self._base_rate(settings)
        self._make_ready(theta, settings, optimizer)

        def before(step: int) -> None:
            if base is not None:
                self._model.optimizer.learning_rate = course.rate(base, step)

        following = _Following(before, lambda step: progress((step + 1) / course.steps))
        for rows in course:
            batches = Batches(examples, settings.batch_size, rows)
            history = self._model.fit(batches, shuffle=False, verbose=0, callbacks=[following])
        metrics = {
            name: (float(values[-1]) * len(rows), float(len(rows)))
            for name, values in history.history.items()
        }
        kept = [np.asarray(variable) for variable in self._model.optimizer.variables]
        return Trained(self._weights(), metrics, course.examples, kept)

    def evaluate(self, theta: Theta, examples: Examples) -> MetricSums:
        """Mean times count of each compiled metric.

        They add up for metrics that are means over examples; of others (AUC, RMSE) they are an estimate.
        """
        self._set_weights(theta)
        means = self._model.evaluate(Batches(examples, EVALUATION_BATCH), verbose=0, return_dict=True)
        return {name: (float(mean) * len(examples.x), float(len(examples.x))) for name, mean in means.items()}

    def _make_ready(self, theta: Theta, settings: TrainingSettings, optimizer: OptimizerState) -> None:
        """Bring model and optimizer to where this training begins."""
        keras.utils.set_random_seed(settings.seed % (1 << 32))
        replaces = settings.learning_rate is not None and self._body.learning_rate is None
        self._compile(_Compiled(settings.proximal, settings.clip_norm, replaces))
        self._set_optimizer(optimizer)
        self._set_weights(theta)
        for anchor, weight in zip(self._anchors, self._model.trainable_weights, strict=True):
            anchor.assign(weight.value)
        _seed_layers(self._model, settings.seed)

    def _compile(self, compiled: "_Compiled") -> None:
        """Compile as the task did, but for what the round asks for; the same again costs nothing."""
        if compiled == self._compiled:
            return
        self._compiled = None
        config = deepcopy(self._body.compile)  # Keras writes into it
        if compiled.replaces_schedule:
            config["optimizer"]["config"]["learning_rate"] = 1.0
        # Several at once would be trained with the rate of the first.
        config["steps_per_execution"] = 1
        try:
            self._model.compile_from_config(config)
        except _BAD_CONFIG as error:
            raise WireError(f"Keras program cannot be compiled: {_last_line(error)}") from None
        self._fresh = [np.asarray(variable) for variable in self._model.optimizer.variables]
        if compiled.proximal or compiled.clip_norm is not None:
            _change_gradients(self._model.optimizer, compiled, self._anchors)
        self._compiled = compiled

    def _base_rate(self, settings: TrainingSettings) -> float | None:
        """What the round's schedule works on; None when the model brings a schedule of its own."""
        base = settings.learning_rate or self._body.learning_rate
        if base is None and settings.schedule is not None:
            raise ConfigError(
                "the model is compiled with a schedule of its own, and the run has another one: "
                "give the run a learning_rate, or neither schedule nor warmup_rounds"
            )
        return base

    def _set_optimizer(self, kept: OptimizerState) -> None:
        """Take back slots and step count, or begin afresh: also when they are another optimizer's."""
        fits = [array.shape for array in kept] == [array.shape for array in self._fresh]
        for variable, value in zip(
            self._model.optimizer.variables, kept if fits else self._fresh, strict=True
        ):
            variable.assign(value)

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


@dataclass(frozen=True)
class _Compiled:
    """What a round asks for that stands in the traced functions."""

    proximal: float = 0.0
    clip_norm: float | None = None
    replaces_schedule: bool = False


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


def _change_gradients(optimizer: Any, asked: _Compiled, anchors: list[Any]) -> None:  # noqa: ANN401
    """Have an optimizer add the proximal term of FedProx to each gradient, then clip all together.

    `anchors` are the round's weights. Source: Li et al. 2020, https://arxiv.org/abs/1812.06127.
    """
    apply = optimizer.apply

    def change_and_apply(gradients: list[Any], variables: list[Any]) -> None:
        # A weight without a gradient stays where it is, and is not pulled back either.
        found = [trio for trio in zip(gradients, variables, anchors, strict=True) if trio[0] is not None]
        changed = [
            # Embedding's gradient is a slice of its rows.
            tf.convert_to_tensor(gradient) + asked.proximal * (variable.value - anchor)
            for gradient, variable, anchor in found
        ]
        if asked.clip_norm is not None:
            changed, _ = tf.clip_by_global_norm(changed, asked.clip_norm)
        apply(changed, [variable for _, variable, _ in found])

    optimizer.apply = change_and_apply


class _Following(keras.callbacks.Callback):  # type: ignore[misc]
    """Calls `before` and `after` with the number of each step, from 0, counted on from epoch to epoch."""

    def __init__(self, before: Callable[[int], None], after: Callable[[int], None]) -> None:
        super().__init__()
        self._before, self._after, self._step = before, after, 0

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        del batch, logs
        self._before(self._step)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        del batch, logs
        self._after(self._step)
        self._step += 1


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
