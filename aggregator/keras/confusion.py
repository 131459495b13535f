"""What a model takes for what, counted in the pass over the held-out data that measures its metrics."""

import contextlib
from typing import Any

import numpy as np

from aggregator.confusion import Counts
from aggregator.keras.determinism import keras
from aggregator.keras.weights import Model

BINARY = 2


class Counting:
    """Counts examples by true, then by predicted class, whenever the model's metrics are updated.

    Made before the model is first tried, which is when Keras settles what a test step does. Models that do
    not give each example one row of outputs, or one number of two classes, are left alone.
    """

    def __init__(self, model: Model, classes: int) -> None:
        self._classes = classes
        self._threshold = 0.0 if getattr(model.loss, "from_logits", False) else 0.5
        zeros = np.zeros((classes, classes), np.int64)
        self._counts = keras.Variable(zeros, trainable=False, dtype="int64")
        measure = model.compute_metrics

        def counting(x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:  # noqa: ANN401  tensors
            self._try_to_count(y, y_pred)
            return measure(x, y, y_pred, sample_weight=sample_weight)

        model.compute_metrics = counting

    def begin(self) -> None:
        """Forget what was counted."""
        self._counts.assign(np.zeros((self._classes, self._classes), np.int64))

    def counts(self, examples: int) -> Counts | None:
        """What was counted since; None unless that is as many examples as these."""
        counts = np.asarray(self._counts)
        return counts.tolist() if counts.sum() == examples else None

    def _try_to_count(self, y: Any, y_pred: Any) -> None:  # noqa: ANN401  tensors
        # Whatever the user's model gives, it is to be measured.
        with contextlib.suppress(Exception):
            self._count(y, y_pred)

    def _count(self, y: Any, y_pred: Any) -> None:  # noqa: ANN401  tensors
        predicted = self._predicted(y_pred)
        if predicted is None:
            return
        truth = keras.ops.reshape(y, (-1,))
        by_class = [
            keras.ops.one_hot(keras.ops.cast(one, "int32"), self._classes) for one in (truth, predicted)
        ]
        # Whole numbers of this size are exact in float32, whose product takes no time.
        more = keras.ops.matmul(keras.ops.transpose(by_class[0]), by_class[1])
        self._counts.assign_add(keras.ops.cast(more, "int64"))

    def _predicted(self, y_pred: Any) -> Any:  # noqa: ANN401  tensors
        shape = tuple(y_pred.shape)[1:]
        if shape == (self._classes,):
            return keras.ops.argmax(y_pred, axis=-1)
        if shape == (1,) and self._classes == BINARY:
            return keras.ops.reshape(y_pred > self._threshold, (-1,))
        return None
