"""What is minimised and what is measured, as TensorFlow functions over the rows of a batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from aggregator.keras.determinism import keras
from aggregator.keras.weights import Model
from broker.litert import LOSS
from host.errors import ConfigError

Tensor = Any  # TensorFlow ships no types

# All of them are the mean over the rows here, where every row counts 1 or nothing.
MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")
SPARSE = ("sparse_categorical_crossentropy", "SparseCategoricalCrossentropy")


@dataclass(frozen=True)
class Loss:
    """A compiled loss without its reduction."""

    compute: Callable[[Tensor, Tensor], Tensor]
    classes: bool
    """Whether it takes labels, int32, not targets, float32."""

    def rows(self, y: Tensor, output: Tensor) -> Tensor:
        """Loss of each row: float32[B]."""
        values = self.compute(y, output)
        return tf.reduce_mean(values, list(range(1, values.shape.rank))) if values.shape.rank > 1 else values

    def y_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one label or target, for the shape of one output."""
        return output_shape[:-1] if self.classes else output_shape


def loss_of(model: Model) -> Loss:
    """Read a compiled loss; raises ConfigError."""
    if isinstance(model.loss, (list, tuple, dict)) or model.get_compile_config().get("loss_weights"):
        raise ConfigError("loss: several losses or loss_weights do not convert; compile with one loss")
    try:
        loss = keras.losses.get(model.loss)
    except ValueError:
        raise ConfigError(
            f"loss {model.loss!r}: name it in full, as 'sparse_categorical_crossentropy'"
        ) from None
    if isinstance(loss, keras.losses.Loss):
        if loss.reduction not in MEANS:
            raise ConfigError(f"loss {loss.name}: reduction {loss.reduction!r} does not convert; use 'mean'")
        return Loss(loss.call, type(loss).__name__ in SPARSE)
    return Loss(loss, getattr(loss, "__name__", "") in SPARSE)


def metrics_of(model: Model) -> tuple[Any, ...]:
    """The compiled metrics of a model that has seen a batch; raises ConfigError for one that is no mean."""
    metrics = tuple(metric for group in model.metrics for metric in getattr(group, "metrics", ()))
    for metric in metrics:
        if not isinstance(metric, keras.metrics.MeanMetricWrapper):
            raise ConfigError(
                f"metric {metric.name}: is no mean over examples and would not add up over devices; "
                "use accuracy, mean_squared_error, mean_absolute_error or another mean"
            )
    names = (LOSS, *(metric.name for metric in metrics))
    if len(set(names)) < len(names):
        raise ConfigError(f"metrics {', '.join(names)}: two have one name; name each differently")
    return metrics


def sum_of(metric: Any, y: Tensor, output: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
    """Sum of a metric over the rows of weight 1: float32, whatever a row has besides one value."""
    empty = [tf.zeros(variable.shape) for variable in metric.variables]
    total, counted = metric.stateless_update_state(empty, y, output, sample_weight=weight)
    per_row = 1.0 if output.shape.rank <= 2 else tf.math.divide_no_nan(tf.reduce_sum(weight), counted)  # noqa: PLR2004
    return total * per_row
