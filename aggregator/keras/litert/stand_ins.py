"""What Keras computes with operators that LiteRT lacks, computed with others while a model is traced."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import tensorflow as tf

# Where Keras keeps what it asks of TensorFlow: no public name lets its layers use another function.
from keras.src import backend

from aggregator.keras.litert.images import convolution_of, max_pool_of
from aggregator.keras.litert.recurrent import no_cudnn, rnn

Tensor = Any  # TensorFlow ships no types
StandIn = tuple[Any, str, Callable[..., Tensor]]

FIRST_SEED = 1


@contextmanager
def builtin_functions() -> Iterator[None]:
    """Have Keras trace with functions that become builtin operators of LiteRT."""
    stand_ins: list[StandIn] = [
        (backend.random, "dropout", _dropout()),
        (backend.nn, "gelu", _gelu),
        (backend.math, "erf", erf),
        (backend, "rnn", rnn),
        (backend, "lstm", no_cudnn),
        (backend, "gru", no_cudnn),
        (backend.numpy, "argmax", _argmax),
        (backend.nn, "sparse_categorical_crossentropy", _sparse_categorical_crossentropy),
        (backend.nn, "categorical_crossentropy", _categorical_crossentropy),
    ]
    with _replaced(stand_ins):
        yield


@contextmanager
def quick_to_train() -> Iterator[None]:
    """Have Keras trace with functions that train faster in LiteRT, whose own are made for fixed weights."""
    stand_ins: list[StandIn] = [
        (backend.nn, "conv", convolution_of(backend.nn.conv)),
        (backend.nn, "max_pool", max_pool_of(backend.nn.max_pool)),
    ]
    with _replaced(stand_ins):
        yield


@contextmanager
def without_dropout() -> Iterator[None]:
    """Have Keras drop nothing, so that two trainings can be compared."""
    with _replaced([(backend.random, "dropout", lambda inputs, *_, **__: inputs)]):
        yield


@tf.custom_gradient  # type: ignore[untyped-decorator]
def erf(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The error function, to 3e-7; its gradient is exact.

    Source: Abramowitz and Stegun 1964, Handbook of Mathematical Functions, 7.1.26.
    """
    size = tf.abs(x)
    t = 1.0 / (1.0 + 0.3275911 * size)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    bell = tf.exp(-x * x)
    return tf.sign(x) * (1.0 - series * bell), lambda upstream: upstream * bell * (2 / math.sqrt(math.pi))


def _gelu(x: Tensor, approximate: bool = True) -> Tensor:  # noqa: FBT001, FBT002  as Keras calls it
    """Source: Hendrycks and Gimpel 2016, https://arxiv.org/abs/1606.08415."""
    x = tf.convert_to_tensor(x)
    return tf.nn.gelu(x, approximate=True) if approximate else 0.5 * x * (1.0 + erf(x / math.sqrt(2)))


def _argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:  # noqa: FBT001, FBT002  as Keras calls it
    """Without Keras' care for -0.0, which needs BitwiseAnd."""
    x, axis = (tf.reshape(x, [-1]), 0) if axis is None else (x, axis)
    place = tf.argmax(x, axis, output_type=tf.int32)
    return tf.expand_dims(place, axis) if keepdims else place


def _dropout() -> Callable[..., Tensor]:
    """Draw by RANDOM_UNIFORM: each use has a seed of its own, and a fresh interpreter begins again.

    The seeds are in the file, whatever those of this process are; LiteRT takes 0 for none.
    """
    seeds = count(1)

    def dropout(inputs: Tensor, rate: float, noise_shape: Any = None, seed: Any = None) -> Tensor:  # noqa: ANN401, ARG001
        if not 0 < rate < 1:
            return inputs * (1.0 - rate)
        sizes = noise_shape or [None] * inputs.shape.rank
        shape = [given or size for given, size in zip(sizes, inputs.shape, strict=True)]
        chance = tf.raw_ops.RandomUniform(shape=shape, dtype=tf.float32, seed=FIRST_SEED, seed2=next(seeds))
        return inputs * tf.cast(chance >= rate, tf.float32) / (1.0 - rate)

    return dropout


def _sparse_categorical_crossentropy(
    target: Tensor,
    output: Tensor,
    from_logits: bool = False,  # noqa: FBT001, FBT002  as Keras calls it
    axis: int = -1,
) -> Tensor:
    logits = _logits(output, from_logits=from_logits)
    if logits is None:
        logits = tf.math.log(_clipped(output))
    labels = tf.one_hot(tf.cast(target, tf.int32), logits.shape[axis])
    return -tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis)


def _categorical_crossentropy(
    target: Tensor,
    output: Tensor,
    from_logits: bool = False,  # noqa: FBT001, FBT002  as Keras calls it
    axis: int = -1,
) -> Tensor:
    logits = _logits(output, from_logits=from_logits)
    if logits is None:
        certainty = tf.math.log(_clipped(output / tf.reduce_sum(output, axis, keepdims=True)))
    else:
        certainty = tf.nn.log_softmax(logits, axis)
    return -tf.reduce_sum(target * certainty, axis)


def _logits(output: Tensor, *, from_logits: bool) -> Tensor | None:
    """What went into the softmax, which is exact where its output rounds to 0; None when there was none."""
    if hasattr(output, "_keras_logits"):
        return output._keras_logits  # noqa: SLF001  where Keras' softmax leaves it for its losses
    if output.op.type == "Softmax":
        return output.op.inputs[0]
    return output if from_logits else None


def _clipped(probability: Tensor) -> Tensor:
    margin = backend.epsilon()
    return tf.clip_by_value(probability, margin, 1.0 - margin)


@contextmanager
def _replaced(stand_ins: list[StandIn]) -> Iterator[None]:
    originals = [(module, name, getattr(module, name)) for module, name, _ in stand_ins]
    try:
        for module, name, function in stand_ins:
            setattr(module, name, function)
        yield
    finally:
        for module, name, function in originals:
            setattr(module, name, function)
