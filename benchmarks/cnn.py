"""The network of examples/letters, and of tests/arm for MNIST's size, on pixels that are scaled already."""

from typing import Any

from aggregator.keras.determinism import keras


def cnn(size: int, optimizer: Any) -> Any:  # noqa: ANN401  Keras ships no types
    """Conv2D 8x5, pool, Conv2D 16x3, Dense 10 on float32[size, size, 1], the same weights every time."""
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((size, size, 1)),
        keras.layers.Conv2D(8, 5, activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(16, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
