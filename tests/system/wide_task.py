"""Ten million parameters, for the wire and not for learning."""

import keras

data_contract = {"shape": (4,), "dtype": "float32", "classes": ["red", "green", "blue"]}


def build_model() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(1_250_000, use_bias=False),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
