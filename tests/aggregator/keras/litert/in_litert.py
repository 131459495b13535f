"""A training program in LiteRT, beside Keras."""

from typing import Any

import numpy as np

from aggregator.keras.litert.interpreting import Interpreted
from aggregator.keras.litert.objective import loss_of
from aggregator.keras.litert.samples import Batch, Samples
from aggregator.keras.weights import Model, theta_of
from broker.layout import Theta
from broker.litert import LiteRTBody

STEPS = 10


def batches(model: Model, body: LiteRTBody) -> list[Batch]:
    """As many as are trained on."""
    samples = Samples(model, loss_of(model))
    return [samples.draw(body.batch, step) for step in range(STEPS)]


def trained_in_litert(body: LiteRTBody, theta: Theta, data: list[Batch]) -> Theta:
    """Theta after a step on each batch."""
    program, opt = Interpreted(body.tflite), np.zeros(body.optimizer_size, np.float32)
    rate, weight = np.array([body.learning_rate], np.float32), np.ones(body.batch, np.float32)
    for x, y in data:
        after = program.run("train", theta=theta, opt=opt, lr=rate, x=x, y=y, weight=weight)
        theta, opt = after["theta"], after["opt"]
    return theta


def trained_in_keras(model: Model, data: list[Batch]) -> Theta:
    """Theta after a step on each batch; the model is changed."""
    for x, y in data:
        model.train_on_batch(x, y)
    return theta_of(model)


def difference(body: LiteRTBody, model: Model) -> tuple[float, float]:
    """Largest difference of theta to Keras after ten steps, as a part of its largest change; that change."""
    start, data = theta_of(model), batches(model, body)
    found = trained_in_litert(body, start, data)
    expected = trained_in_keras(model, data)
    moved = float(np.abs(expected - start).max())
    return float(np.abs(found - expected).max()) / moved, moved


def padded(body: LiteRTBody, batch: Batch) -> dict[str, Any]:
    """The inputs of a batch filled with rows of weight 0, whose numbers are far off."""
    rows, (x, y) = len(batch[0]), batch
    more = body.batch - rows
    return {
        "x": np.concatenate([x, np.full((more, *x.shape[1:]), 50, x.dtype)]),
        "y": np.concatenate([y, np.zeros((more, *y.shape[1:]), y.dtype)]),
        "weight": np.repeat(np.array([1, 0], np.float32), [rows, more]),
    }
