"""Keras' optimizers over one flat vector; their state is `opt`, float32[Q], and begins as zeros."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from aggregator.keras.determinism import keras
from aggregator.keras.weights import Model
from host.errors import ConfigError

Tensor = Any  # TensorFlow ships no types
Step = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

# Settings of any optimizer that change what a step is; all of them are off by default.
OFF = (
    ("weight_decay", "an L2 regularizer"),
    ("clipnorm", "the run's clip_norm"),
    ("global_clipnorm", "the run's clip_norm"),
    ("clipvalue", "the run's clip_norm"),
    ("use_ema", "the plain weights"),
    ("loss_scale_factor", "float32 throughout"),
    ("gradient_accumulation_steps", "a larger batch"),
    ("amsgrad", "plain Adam"),
)


@dataclass(frozen=True)
class Optimizer:
    """A step over trainable weights, float32[Pt]: (weights, opt, gradient, lr[1]) to (weights, opt)."""

    size: int
    """Q, the length of `opt`."""
    learning_rate: float
    step: Step


def optimizer_of(model: Model, trainable: int) -> Optimizer:
    """Read the compiled optimizer of a model with `trainable` weights, Pt; raises ConfigError."""
    optimizer = model.optimizer
    config, name = optimizer.get_config(), type(optimizer).__name__
    if isinstance(config["learning_rate"], dict):
        raise ConfigError(
            "optimizer: a schedule as learning_rate does not convert; compile with a number "
            "and give the run a schedule"
        )
    for setting, instead in OFF:
        if config.get(setting):
            raise ConfigError(f"optimizer {name}: {setting} does not convert; leave it out, use {instead}")
    if any(weight.constraint is not None for weight in model.trainable_weights):
        raise ConfigError("a constraint on weights does not convert; use a regularizer instead")
    rate = float(config["learning_rate"])
    # Subclasses (AdamW is one of Adam) compute something else.
    if type(optimizer) is keras.optimizers.SGD:
        momentum, nesterov = config["momentum"], config["nesterov"]
        if not momentum:
            return Optimizer(1, rate, _plain)
        return Optimizer(trainable, rate, _with_momentum(momentum, nesterov=nesterov))
    if type(optimizer) is keras.optimizers.Adam:
        return Optimizer(
            2 * trainable + 1, rate, _adam(config["beta_1"], config["beta_2"], config["epsilon"])
        )
    raise ConfigError(f"optimizer {name}: does not convert; use SGD (momentum, nesterov) or Adam")


def _plain(weights: Tensor, opt: Tensor, gradient: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    return weights - rate * gradient, tf.identity(opt)


def _with_momentum(momentum: float, *, nesterov: bool) -> Step:
    """Source: Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html."""

    def step(weights: Tensor, opt: Tensor, gradient: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        velocity = momentum * opt - rate * gradient
        change = momentum * velocity - rate * gradient if nesterov else velocity
        return weights + change, velocity

    return step


def _adam(beta_1: float, beta_2: float, epsilon: float) -> Step:
    """`opt` is both moments, then the count of steps. Source: https://arxiv.org/abs/1412.6980."""

    def step(weights: Tensor, opt: Tensor, gradient: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        size = weights.shape[0]
        first, second, steps = tf.split(opt, [size, size, 1])
        steps = steps + 1.0
        first = first + (1 - beta_1) * (gradient - first)
        second = second + (1 - beta_2) * (gradient * gradient - second)
        corrected = rate * tf.sqrt(1.0 - tf.pow(beta_2, steps)) / (1.0 - tf.pow(beta_1, steps))
        change = corrected * first / (tf.sqrt(second) + epsilon)
        return weights - change, tf.concat([first, second, steps], 0)

    return step
