"""A runtime that a user might install on the devices: softmax regression by gradient descent, in numpy."""

import os
import time

import numpy as np
from numpy.typing import NDArray

from broker.layout import Layout, Theta
from broker.messages import TrainingSettings
from edge_agent.data.examples import AnyArray, Examples
from edge_agent.runtimes.base import MetricSums, OptimizerState, Progress, Trained
from edge_agent.runtimes.order import passes
from host.errors import WireError

TINY = 1e-7


def probabilities(x: AnyArray, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> AnyArray:
    scores: AnyArray = x @ weights + bias
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


class Softmax:
    """Weights (inputs, classes) and a bias (classes,); the program is the learning rate.

    On a device whose environment says so, a batch takes long.
    """

    def load(self, program: bytes, layout: Layout) -> None:
        try:
            self._rate = float(program)
        except ValueError:
            raise WireError(f"{program[:20]!r} is no learning rate") from None
        match layout.trainable:
            case ((_, classes), (also_classes,)) if classes == also_classes and not layout.state:
                self._layout = layout
            case _:
                raise WireError("the layout is not that of a softmax regression")

    def train(
        self,
        theta: Theta,
        examples: Examples,
        settings: TrainingSettings,
        _optimizer: OptimizerState,
        progress: Progress,
    ) -> Trained:
        size, orders = settings.batch_size, passes(len(examples.x), settings)
        batches = [order[i : i + size] for order in orders for i in range(0, len(order), size)]
        for number, rows in enumerate(batches, start=1):
            time.sleep(float(os.environ.get("LAB_BATCH_S", "0")))
            theta = theta - np.float32(self._rate) * self._gradient(theta, examples.x[rows], examples.y[rows])
            progress(number / len(batches))
        return Trained(theta, self.evaluate(theta, examples), len(examples.x))

    def evaluate(self, theta: Theta, examples: Examples) -> MetricSums:
        chances, count = probabilities(examples.x, *self._layout.unflatten(theta)), float(len(examples.x))
        right = (chances.argmax(axis=1) == examples.y).sum()
        surprise = -np.log(chances[np.arange(len(chances)), examples.y] + TINY).sum()
        return {"loss": (float(surprise), count), "accuracy": (float(right), count)}

    def _gradient(self, theta: Theta, x: AnyArray, y: AnyArray) -> Theta:
        error = probabilities(x, *self._layout.unflatten(theta))
        error[np.arange(len(y)), y] -= 1
        gradient: list[AnyArray] = [x.T @ error / len(y), error.mean(axis=0)]
        return self._layout.flatten(gradient)
