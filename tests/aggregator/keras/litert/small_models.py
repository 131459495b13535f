"""Small models, with all the layers that must convert; a few have many, to be converted at once."""

from collections.abc import Callable
from typing import Any

import numpy as np

from aggregator.keras.determinism import keras

L = keras.layers
Model = Any
Tensor = Any

IMAGE = (10, 9, 2)
STEPS = (5, 3)
CLASSES = 3


def _model(shape: tuple[int, ...], body: Callable[[Tensor], Tensor], dtype: str = "float32") -> Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input(shape, dtype=dtype)
    outputs = L.Dense(CLASSES, activation="softmax")(body(inputs))
    return compiled(keras.Model(inputs, outputs))


def compiled(model: Model, optimizer: Any = None, loss: Any = None, metrics: Any = ("accuracy",)) -> Model:  # noqa: ANN401
    """Compile as a classifier by SGD, or as told."""
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        loss or "sparse_categorical_crossentropy",
        metrics=list(metrics),
    )
    return model


def side_by_side(*branches: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """All branches on one input, their outputs flat and joined."""
    return lambda x: L.Concatenate()([L.Flatten()(branch(x)) for branch in branches])


def one_by_one(*layers: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Each layer on what the one before gave."""

    def body(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x

    return body


def dense() -> Model:
    return _model((5,), one_by_one(L.Dense(8, activation="relu"), L.Dense(4, activation="tanh")))


def convolutions() -> Model:
    return _model(
        IMAGE,
        side_by_side(
            L.Conv2D(3, 3, strides=2, padding="same", activation="relu"),
            L.Conv2D(3, (3, 2), strides=(1, 2)),
            one_by_one(L.Conv2D(2, 3, activation="relu"), L.Conv2D(2, 3, dilation_rate=2, activation="relu")),
            L.Conv2D(2, 3, dilation_rate=(2, 1), padding="same"),
        ),
    )


def separable_convolutions() -> Model:
    return _model(
        IMAGE,
        side_by_side(
            one_by_one(L.Conv2D(2, 1), L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same")),
            one_by_one(L.Conv2D(2, 1), L.DepthwiseConv2D(3, dilation_rate=2)),
            one_by_one(L.Conv2D(2, 1), L.SeparableConv2D(3, 3, activation="relu")),
        ),
    )


def transposed_convolutions() -> Model:
    return _model(
        (4, 4, 2),
        side_by_side(
            one_by_one(L.Conv2D(2, 1), L.Conv2DTranspose(2, 3, strides=2, padding="same")),
            one_by_one(L.Conv2D(2, 1), L.Conv2DTranspose(2, 3)),
            one_by_one(L.UpSampling2D(2), L.Conv2D(2, 3)),
        ),
    )


def pooling() -> Model:
    first = L.Conv2D(4, 3, padding="same", activation="relu")
    return _model(
        IMAGE,
        one_by_one(
            first,
            side_by_side(
                L.MaxPooling2D(),
                L.MaxPooling2D(3, strides=2, padding="same"),
                L.AveragePooling2D(2),
                L.AveragePooling2D(3, strides=2, padding="same"),
                L.GlobalMaxPooling2D(),
                L.GlobalAveragePooling2D(),
            ),
        ),
    )


def sequences() -> Model:
    return _model(
        (16, 3),
        one_by_one(
            L.Conv1D(6, 5, activation="relu"),
            side_by_side(
                one_by_one(L.MaxPooling1D(2), L.Conv1D(4, 3, padding="causal")),
                one_by_one(L.AveragePooling1D(3, padding="same"), L.Conv1D(4, 2, strides=2, padding="same")),
                L.GlobalMaxPooling1D(),
                L.GlobalAveragePooling1D(),
            ),
        ),
    )


def normalisations() -> Model:
    return _model(
        IMAGE,
        one_by_one(
            L.Conv2D(4, 3, strides=2, use_bias=False),
            L.BatchNormalization(),
            L.ReLU(),
            L.Conv2D(4, 2),
            side_by_side(L.GroupNormalization(2), L.LayerNormalization(), L.BatchNormalization()),
        ),
    )


def _residual(x: Tensor) -> Tensor:
    x = L.Rescaling(0.5, offset=-0.1)(x)
    start = L.Conv2D(4, 3, padding="same")(x)
    end = L.Conv2D(4, 3, padding="same", activation="relu")(start)
    joined = L.Concatenate()([L.Add()([start, end]), L.Multiply()([start, end]), L.Average()([start, end])])
    cut = L.Cropping2D(1)(L.ZeroPadding2D((2, 1))(joined))
    return L.Flatten()(L.Conv2D(2, 3, activation="relu")(cut))


def residual() -> Model:
    return _model((6, 6, 1), _residual)


def recurrent() -> Model:
    return _model(
        STEPS,
        side_by_side(
            one_by_one(L.LSTM(4, return_sequences=True), L.LSTM(3)),
            one_by_one(L.GRU(4), L.Dense(2)),
            one_by_one(L.SimpleRNN(4), L.Dense(2)),
        ),
    )


def bidirectional() -> Model:
    return _model(
        (3, 3), one_by_one(L.Bidirectional(L.LSTM(3, return_sequences=True)), L.Bidirectional(L.SimpleRNN(2)))
    )


def _attend(x: Tensor) -> Tensor:
    x = L.Embedding(20, 8)(x)
    attended = L.MultiHeadAttention(2, 4)(x, x)
    return L.GlobalAveragePooling1D()(L.LayerNormalization()(L.Add()([x, attended])))


def attention() -> Model:
    return _model((7,), _attend, "int32")


ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid", "softplus"),
    *("softsign", "hard_sigmoid", "hard_silu", "exponential", "softmax", "log_softmax", "mish", "celu"),
)


def activations() -> Model:
    layers = [one_by_one(L.Dense(3), L.Activation(name)) for name in ACTIVATIONS]
    return _model((4,), side_by_side(*layers, one_by_one(L.Dense(3), L.PReLU())))


def regularised() -> Model:
    l1_l2 = keras.regularizers.L1L2(0.01, 0.02)
    return _model(
        (5,),
        one_by_one(
            L.Dense(8, activation="relu", kernel_regularizer="l2", bias_regularizer="l1"),
            L.Dense(4, activation="tanh", kernel_regularizer=l1_l2),
        ),
    )


def scaled() -> Model:
    normalisation = L.Normalization()
    normalisation.adapt(np.array([[1, 2], [3, 6], [5, 1]], np.float32))
    return _model((2,), one_by_one(normalisation, L.Dense(3, activation="relu")))


BUILDERS = (
    *(dense, convolutions, separable_convolutions, transposed_convolutions, pooling, sequences),
    *(normalisations, residual, recurrent, bidirectional, attention, activations, regularised, scaled),
)
