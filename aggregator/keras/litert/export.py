"""A compiled Keras model as a training program for LiteRT."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from aggregator.keras.litert.conversion import convert
from aggregator.keras.litert.gate import Gate
from aggregator.keras.litert.objective import loss_of, metrics_of
from aggregator.keras.litert.optimizers import optimizer_of
from aggregator.keras.litert.rebuild import parts, rebuilt
from aggregator.keras.litert.samples import Samples
from aggregator.keras.litert.stand_ins import builtin_functions, quick_to_train, without_dropout
from aggregator.keras.litert.tracing import PureModel, Signatures, trace
from aggregator.keras.program import description
from aggregator.keras.weights import Model, layout_of
from broker.litert import LOSS, MAX_TFLITE_BYTES, LiteRTBody
from broker.program import has_batch_statistics
from host.errors import ConfigError

DTYPES = ("float32", "int32", "uint8")
# Settings of layers that make a row's part depend on other rows, and what to do instead.
PER_ROW = {
    "stateful": "what it keeps from batch to batch belongs to one device's series and cannot be averaged; "
    "use stateful=False",
    "activity_regularizer": "it would count the rows that fill a short batch; use kernel_regularizer",
}


def export_litert(model: Model, *, batch: int) -> LiteRTBody:
    """Convert a compiled model, its loss, optimizer and metrics, for batches of `batch` rows.

    What leaves has been compared with Keras. Raises ConfigError that names what does not convert, and what
    to use instead. The model is left as it is.
    """
    _check(model)
    copy = rebuilt(model)
    loss, optimizer = loss_of(copy), optimizer_of(copy, layout_of(copy).trainable_size)
    samples = Samples(copy, loss)
    # Only by a batch does Keras learn what the names of metrics stand for.
    copy.test_on_batch(*samples.draw(batch, 0))
    signatures = Signatures(PureModel(copy), loss, metrics_of(copy), optimizer)
    files = _convert(signatures, samples, batch)
    batch_statistics = has_batch_statistics(description(copy))
    Gate(rebuilt(model), samples, batch).check(
        files.comparable, optimizer.size, exact_padding=not batch_statistics
    )
    return LiteRTBody(
        batch=batch,
        optimizer_size=optimizer.size,
        learning_rate=optimizer.learning_rate,
        metrics=(LOSS, *(metric.name for metric in signatures.metrics)),
        classes=loss.classes,
        x_shape=copy.input_shape[1:],
        x_dtype=copy.inputs[0].dtype,
        y_shape=loss.y_shape(copy.output_shape[1:]),
        batch_statistics=batch_statistics,
        stochastic=files.comparable is not files.program,
        tflite=files.program,
    )


@dataclass(frozen=True)
class _Files:
    """A converted program, and one that does the same without dropout, for comparing: often the same."""

    program: bytes
    comparable: bytes


def _convert(signatures: Signatures, samples: Samples, batch: int) -> _Files:
    x, y = (
        tf.TensorSpec(part.shape, part.dtype, name)
        for part, name in zip(samples.draw(batch, 0), "xy", strict=True)
    )
    with builtin_functions(), quick_to_train():
        functions = _trace(signatures, x, y)
        program = convert(functions)
        if len(program) > MAX_TFLITE_BYTES:
            raise ConfigError(
                f"the training program has {len(program)} bytes, at most {MAX_TFLITE_BYTES} travel; "
                "use fewer or smaller layers"
            )
        if not _is_stochastic(functions):
            return _Files(program, program)
        with without_dropout():
            return _Files(program, convert(_trace(signatures, x, y)))


def _trace(signatures: Signatures, x: Any, y: Any) -> dict[str, Any]:  # noqa: ANN401  TensorFlow ships no types
    try:
        return trace(signatures, x, y)
    except ConfigError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ConfigError(f"the model's training cannot be traced: {' '.join(lines[:2])[:200]}") from error


def _is_stochastic(functions: dict[str, Any]) -> bool:
    return any(operation.type == "RandomUniform" for operation in functions["train"].graph.get_operations())


def _check(model: Model) -> None:
    """One input and one output of fixed shapes, each row for itself; raises ConfigError."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ConfigError(
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs; use one of each: "
            "one keras.Input of all columns, cut inside the model as x[:, :16], and "
            "keras.layers.Concatenate for the outputs"
        )
    for setting, why in PER_ROW.items():
        layers = [part["name"] for part in parts(description(model)) if part.get(setting)]
        if layers:
            raise ConfigError(f"{', '.join(layers)} has {setting}: {why}")
    if None in model.input_shape[1:] or None in model.output_shape[1:]:
        raise ConfigError(
            f"the model takes shape {model.input_shape[1:]} and gives {model.output_shape[1:]}; "
            "give keras.Input every extent, as (16, 3) where it has (None, 3)"
        )
    if model.inputs[0].dtype not in DTYPES:
        raise ConfigError(
            f"the model takes {model.inputs[0].dtype}; use keras.Input(dtype=...) with {', '.join(DTYPES)}"
        )
