"""A model, its loss and its optimizer as pure TensorFlow functions over theta: the program's signatures."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from aggregator.keras.determinism import keras
from aggregator.keras.gradients.table import builtin_gradients
from aggregator.keras.litert.loops import differentiable
from aggregator.keras.litert.objective import Loss, sum_of
from aggregator.keras.litert.optimizers import Optimizer
from aggregator.keras.weights import Model, layers_of, layout_of, weights_of

Tensor = Any  # TensorFlow ships no types
Weights = list[Tensor]


@dataclass(frozen=True)
class Pass:
    """What a pass through the model gives."""

    output: Tensor
    penalty: Tensor
    """Sum of the regularisers."""
    state: Weights
    """The weights that are not trained, afterwards."""


class PureModel:
    """A Keras model without variables: its weights come with every call."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.layout = layout_of(model)
        trained, state = weights_of(model)
        self._variables, self._trained = trained + state, len(trained)

    def unflatten(self, theta: Tensor) -> Weights:
        """Cut theta, float32[P], into the weights of the layout."""
        sizes = [entry.size for entry in self.layout.entries]
        pieces = tf.split(theta, sizes) if len(sizes) > 1 else [theta]
        return [tf.reshape(piece, e.shape) for piece, e in zip(pieces, self.layout.entries, strict=True)]

    def trained(self, weights: Weights) -> Weights:
        """Those of the weights that are trained."""
        return weights[: self._trained]

    def run(self, weights: Weights, x: Tensor, *, training: bool) -> Pass:
        """Pass a batch through the model."""
        mapping = zip(self._variables, weights, strict=True)
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            for layer in layers_of(self._model):
                # It would hold statistics as constants otherwise.
                if isinstance(layer, keras.layers.Normalization):
                    layer.finalize_state()
            output = self._model(x, training=training)
            losses = self._model.losses
        state = [scope.get_current_value(variable) for variable in self._variables[self._trained :]]
        return Pass(output, tf.add_n(losses) if losses else tf.zeros([]), state)


@dataclass(frozen=True)
class Signatures:
    """All that the signatures are made of."""

    model: PureModel
    loss: Loss
    metrics: tuple[Any, ...]
    optimizer: Optimizer

    def train(
        self, theta: Tensor, opt: Tensor, lr: Tensor, x: Tensor, y: Tensor, weight: Tensor
    ) -> dict[str, Tensor]:
        """One step of the optimizer."""
        loss, gradient, state = self._gradient(theta, x, y, weight)
        trained, opt = self.optimizer.step(self._trained(theta), opt, gradient, lr)
        after = tf.concat([trained, state], 0) if self.model.layout.state else trained
        return {"theta": after, "opt": opt, "loss": tf.reshape(loss, [1])}

    def grad(self, theta: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """The gradient, for what the device does with it itself."""
        loss, gradient, state = self._gradient(theta, x, y, weight)
        return {"grad": gradient, "loss": tf.reshape(loss, [1]), "state": state}

    def apply(self, trained: Tensor, opt: Tensor, lr: Tensor, grad: Tensor) -> dict[str, Tensor]:
        """The optimizer's part of a step, along a gradient that the device changed."""
        after, opt = self.optimizer.step(trained, opt, grad, lr)
        return {"trained": after, "opt": opt}

    def evaluate(self, theta: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Sums of all metrics over the rows of weight 1, the loss first."""
        after = self.model.run(self.model.unflatten(theta), x, training=False)
        rows = tf.reduce_sum(weight)
        loss = tf.reduce_sum(self.loss.rows(y, after.output) * weight) + after.penalty * rows
        others = [sum_of(metric, y, after.output, weight) for metric in self.metrics]
        return {"sums": tf.stack([loss, *others]), "weight": tf.reshape(rows, [1])}

    def infer(self, theta: Tensor, x: Tensor) -> dict[str, Tensor]:
        """What the model says."""
        return {"output": self.model.run(self.model.unflatten(theta), x, training=False).output}

    def _trained(self, theta: Tensor) -> Tensor:
        return theta[: self.model.layout.trainable_size] if self.model.layout.state else theta

    def _gradient(self, theta: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, gradient float32[Pt] and state float32[P-Pt], or one zero."""
        with builtin_gradients(), differentiable():
            weights = self.model.unflatten(theta)
            after = self.model.run(weights, x, training=True)
            rows = self.loss.rows(y, after.output)
            # A batch of padding alone has loss 0.
            mean = tf.reduce_sum(rows * weight) / tf.maximum(tf.reduce_sum(weight), 1.0)
            loss = mean + after.penalty
        trained = self.model.trained(weights)
        gradients = tf.gradients(loss, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return loss, _flat(gradients), _flat(after.state) if after.state else tf.zeros([1])


def trace(signatures: Signatures, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Concrete functions by name; `x` and `y` are the specs of a batch."""
    theta = tf.TensorSpec([signatures.model.layout.size], name="theta")
    opt = tf.TensorSpec([signatures.optimizer.size], name="opt")
    # Not (): a scalar input crashes some builds of LiteRT.
    lr, weight = tf.TensorSpec([1], name="lr"), tf.TensorSpec([x.shape[0]], name="weight")
    trained, grad = (
        tf.TensorSpec([signatures.model.layout.trainable_size], name=name) for name in ("trained", "grad")
    )
    inputs = {
        signatures.train: [theta, opt, lr, x, y, weight],
        signatures.grad: [theta, x, y, weight],
        signatures.apply: [trained, opt, lr, grad],
        signatures.evaluate: [theta, x, y, weight],
        signatures.infer: [theta, x],
    }
    return {
        function.__name__: tf.function(
            function, input_signature=specs, autograph=False
        ).get_concrete_function()
        for function, specs in inputs.items()
    }


def _flat(tensors: Weights) -> Tensor:
    flat = [tf.reshape(tensor, [-1]) for tensor in tensors]
    return tf.concat(flat, 0) if len(flat) > 1 else flat[0]
