"""The gate at the end of an export: the program does what Keras does, or it does not leave.

Every step is compared by itself, from the same weights: over many steps even two right programs part, where
rounding takes a value to the other side of a corner.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from aggregator.keras.litert.interpreting import Interpreted
from aggregator.keras.litert.rebuild import has_loops
from aggregator.keras.litert.samples import Batch, Samples
from aggregator.keras.litert.stand_ins import without_dropout
from aggregator.keras.weights import Model, layout_of, theta_of, weights_of
from broker.layout import Theta
from broker.litert import LOSS
from host.errors import ConfigError

STEPS = 3
SEED = 20
# Rounding comes to 1e-6 of a gradient; what is computed otherwise is wrong by much more.
TOLERANCE = 1e-3
# A bias in front of a normalisation has no gradient but rounding: this part of the largest one passes.
NOTHING = 1e-4
FLOAT32_EPSILON = 1.2e-7
# How far a step moves a weight; far enough to see it, and not out of all bounds.
MOVE = 0.05

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Gate:
    """Compares programs with a model, a compiled copy that is trained by it."""

    model: Model
    samples: Samples
    batch: int

    def check(self, tflite: bytes, optimizer_size: int, *, exact_padding: bool) -> None:
        """Raise ConfigError where LiteRT differs from Keras; with `exact_padding` on short batches too.

        One step in three may differ: rounding that takes a value to the other side of a corner is no fault.
        """
        program, opt = Interpreted(tflite), np.zeros(optimizer_size, np.float32)
        self.model.run_eagerly = not has_loops(self.model)
        faults: list[str] = []
        with without_dropout():
            for step in range(STEPS):
                rows = max(1, self.batch // 2) if exact_padding and step else self.batch
                found, opt = self._step(program, opt, rows, SEED + step)
                faults += found[:1]
        if len(faults) > STEPS // 2:
            raise ConfigError(faults[0])

    def _step(self, program: Interpreted, opt: Theta, rows: int, seed: int) -> tuple[list[str], Theta]:
        """Compare all signatures on a batch with `rows` real rows, and go a step on: what differs, opt."""
        x, y = self.samples.draw(self.batch, seed)
        weight = (np.arange(self.batch) < rows).astype(np.float32)
        inputs, real = {"theta": theta_of(self.model), "x": x, "y": y, "weight": weight}, (x[:rows], y[:rows])
        faults = [*self._measures(program, inputs, real)]
        gradient, expected = program.run("grad", **inputs)["grad"], self._gradient(*real)
        faults += self._by_weight("gradient", expected, gradient)
        rate = min(MOVE, MOVE / float(np.abs(expected).max(initial=1e-30)))
        settings = {"opt": opt, "lr": np.array([rate], np.float32)}
        after = program.run("train", **settings, **inputs)
        self._apply(gradient, rate)
        theta = inputs["theta"]
        rounding = FLOAT32_EPSILON * float(np.linalg.norm(theta))
        trained = theta[: len(gradient)]
        parts = program.run("apply", trained=trained, grad=gradient, **settings)["trained"]
        faults += _compare(
            "a step in two parts", after["theta"][: len(gradient)] - trained, parts - trained, rounding
        )
        faults += self._by_weight("step", theta_of(self.model) - theta, after["theta"] - theta, rounding)
        return faults, after["opt"]

    def _measures(self, program: Interpreted, inputs: Arrays, real: Batch) -> Iterator[str]:
        x, y = real
        output = program.run("infer", theta=inputs["theta"], x=inputs["x"])["output"][: len(x)]
        yield from _compare("the output", self.model.predict_on_batch(x), output)
        found = program.run("evaluate", **inputs)
        means = self.model.evaluate(x, y, batch_size=len(x), verbose=0, return_dict=True)
        names = [LOSS, *(name for name in means if name != LOSS)]
        for name, total in zip(names, found["sums"], strict=True):
            yield from _compare(f"metric {name}", np.array(means[name]), total / found["weight"][0])

    def _gradient(self, x: NDArray[Any], y: NDArray[Any]) -> Theta:
        """Keras' gradient, float32[Pt]; the model's statistics take in the batch."""
        flat = [np.ravel(gradient) for gradient in self._gradients(tf.constant(x), tf.constant(y))]
        return np.concatenate(flat).astype(np.float32)

    @cached_property
    def _gradients(self) -> Callable[..., list[Any]]:
        """By weight; compiled where step after step would take long."""
        return tf.function(self._taped, autograph=False) if has_loops(self.model) else self._taped

    def _taped(self, x: Any, y: Any) -> list[Any]:  # noqa: ANN401  TensorFlow ships no types
        with tf.GradientTape() as tape:
            loss = self.model.compute_loss(x, y, self.model(x, training=True))
        weights = [w.value for w in self.model.trainable_weights]
        gradients = tape.gradient(loss, weights, unconnected_gradients="zero")
        return [tf.convert_to_tensor(gradient) for gradient in gradients]

    def _apply(self, gradient: Theta, rate: float) -> None:
        """Go a step of Keras' optimizer along a gradient, float32[Pt]."""
        entries = [entry for entry in layout_of(self.model).entries if entry.trainable]
        pieces = [gradient[e.offset : e.offset + e.size].reshape(e.shape) for e in entries]
        self.model.optimizer.learning_rate = rate
        self.model.optimizer.apply([tf.constant(p) for p in pieces], self.model.trainable_weights)

    def _by_weight(self, what: str, expected: Theta, found: Theta, floor: float = 0.0) -> Iterator[str]:
        """Compare weight by weight, from the output on: an error there spreads to the layers before."""
        floor += NOTHING * float(np.linalg.norm(expected))
        trained, state = weights_of(self.model)
        entries = zip(layout_of(self.model).entries, trained + state, strict=True)
        for entry, weight in reversed(list(entries)):
            cut = slice(entry.offset, entry.offset + entry.size)
            if entry.offset < len(expected):
                yield from _compare(f"{weight.path}: the {what}", expected[cut], found[cut], floor)


def _compare(
    what: str, expected: NDArray[np.floating], found: NDArray[np.floating], floor: float = 1e-5
) -> Iterator[str]:
    """Say it when two vectors differ by more than rounding."""
    error, size = float(np.linalg.norm(found - expected)), float(np.linalg.norm(expected))
    if not error <= TOLERANCE * size + floor:
        yield (
            f"{what} in LiteRT differs from Keras' by {error:.1e}, where Keras has {size:.1e}: "
            "use another layer in its place"
        )
