from collections.abc import Callable
from typing import Any

import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.litert.stand_ins import builtin_functions
from host.errors import ConfigError
from tests.aggregator.keras.litert.in_litert import difference
from tests.aggregator.keras.litert.small_models import compiled, one_by_one, side_by_side

L = keras.layers
BATCH = 4


@keras.saving.register_keras_serializable("midge tests")
class Gated(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A cell that gives something else than its state, and may drop anew in every step."""

    def __init__(self, rate: float = 0.0, **settings: Any) -> None:  # noqa: ANN401
        super().__init__(**settings)
        self.rate, self.state_size, self.output_size = rate, 3, 2
        self.inner, self.outer, self.drop = L.Dense(3, "tanh"), L.Dense(2), L.Dropout(rate)

    def build(self, shape: Any) -> None:  # noqa: ANN401
        self.inner.build((shape[0], shape[1] + 3))
        self.outer.build((shape[0], 3))

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002
        state = self.inner(keras.ops.concatenate([self.drop(inputs, training=training), states[0]], -1))
        return self.outer(state), [state]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


def classifier(inputs: Any, body: Any) -> Any:  # noqa: ANN401
    return compiled(keras.Model(inputs, L.Dense(3, activation="softmax")(body)))


def with_states() -> Any:  # noqa: ANN401
    keras.utils.set_random_seed(5)
    inputs = keras.Input((7, 3))
    encoded, *states = L.LSTM(3, return_sequences=True, return_state=True, unroll=True)(inputs)
    decoded = L.LSTM(3, go_backwards=True, return_sequences=True)(encoded, initial_state=states)
    return classifier(inputs, L.Flatten()(decoded))


def of_cells() -> Any:  # noqa: ANN401
    keras.utils.set_random_seed(5)
    inputs = keras.Input((5, 3))
    cells = L.RNN([L.GRUCell(3, reset_after=False), L.SimpleRNNCell(2)])
    lines = one_by_one(L.Reshape((5, 3, 1)), L.ConvLSTM1D(1, 2))
    return classifier(inputs, side_by_side(cells, L.RNN(Gated(), return_sequences=True), lines)(inputs))


def with_masks() -> Any:  # noqa: ANN401
    keras.utils.set_random_seed(5)
    inputs = keras.Input((7,), dtype="int32")
    words = L.Embedding(4, 3, mask_zero=True)(inputs)
    body = side_by_side(
        L.LSTM(3, go_backwards=True),
        one_by_one(L.SimpleRNN(3, return_sequences=True), L.GlobalAveragePooling1D()),
        one_by_one(
            L.RNN(L.SimpleRNNCell(2), return_sequences=True, zero_output_for_mask=True),
            L.GlobalAveragePooling1D(),
        ),
    )
    return classifier(inputs, body(words))


@pytest.mark.parametrize("build", [with_states, of_cells, with_masks], ids=lambda build: build.__name__)
def test_ten_steps_with_every_setting_are_those_of_keras(build: Callable[[], Any]) -> None:
    model = build()
    apart, moved = difference(export_litert(model, batch=BATCH), model)
    assert moved > 1e-2
    assert apart <= 1e-4


def test_many_steps_take_no_more_bytes_than_few_and_train_as_keras_does() -> None:
    sizes = []
    for steps in (4, 150):
        keras.utils.set_random_seed(5)
        inputs = keras.Input((steps, 2))
        model = classifier(inputs, L.GRU(4)(inputs))
        body = export_litert(model, batch=BATCH)
        sizes.append(len(body.tflite))
    assert sizes[1] < 1.02 * sizes[0]
    assert difference(body, model)[0] <= 1e-4


def test_dropout_of_a_layer_drops_and_is_compared_without() -> None:
    inputs = keras.Input((5, 3))
    model = classifier(inputs, L.SimpleRNN(3, dropout=0.3, recurrent_dropout=0.3)(inputs))
    assert export_litert(model, batch=BATCH).stochastic


def test_cudnn_is_not_there_while_a_program_is_traced() -> None:
    backend = keras.src.backend
    with builtin_functions():
        for function in (backend.lstm, backend.gru):
            with pytest.raises(NotImplementedError):
                function()


@pytest.mark.parametrize(
    ("layer", "complaint"),
    [
        (lambda: L.RNN(Gated(0.5)), "random numbers in every step.*dropout"),
        (lambda: L.GRU(3, stateful=True, name="kept"), "kept has stateful.*stateful=False"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused_with_what_to_use(
    layer: Callable[[], Any], complaint: str
) -> None:
    inputs = keras.Input((5, 3), batch_size=BATCH)
    with pytest.raises(ConfigError, match=complaint):
        export_litert(classifier(inputs, layer()(inputs)), batch=BATCH)
