from typing import Any

import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.litert.optimizers import optimizer_of
from host.errors import ConfigError
from tests.aggregator.keras.litert.in_litert import difference
from tests.aggregator.keras.litert.small_models import compiled

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
PARAMETERS = 5 * 9 + 9 + 9 * 4 + 4


def smooth(optimizer: Any, **settings: Any) -> Any:  # noqa: ANN401
    """Without corners, where rounding decides which way a step of Adam goes."""
    keras.utils.set_random_seed(5)
    hidden = keras.layers.Dense(9, activation="tanh", **settings)
    model = keras.Sequential([keras.Input((5,)), hidden, keras.layers.Dense(4, activation="softmax")])
    return compiled(model, optimizer)


@pytest.mark.parametrize(
    ("optimizer", "size"),
    [
        (SGD(0.05), 1),
        (SGD(0.05, momentum=0.9), PARAMETERS),
        (SGD(0.05, momentum=0.8, nesterov=True), PARAMETERS),
        (Adam(0.01), 2 * PARAMETERS + 1),
        (Adam(0.01, beta_1=0.8, beta_2=0.9, epsilon=1e-3), 2 * PARAMETERS + 1),
    ],
)
def test_ten_steps_of_an_optimizer_are_those_of_keras(optimizer: Any, size: int) -> None:  # noqa: ANN401
    model = smooth(optimizer)
    body = export_litert(model, batch=4)
    assert body.optimizer_size == size
    assert body.learning_rate == pytest.approx(float(optimizer.learning_rate))
    apart, moved = difference(body, model)
    assert moved > 1e-2
    assert apart <= 1e-4


@pytest.mark.parametrize(
    ("optimizer", "complaint"),
    [
        (SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)), "schedule.*give the run a schedule"),
        (SGD(0.1, weight_decay=0.1), "SGD: weight_decay.*regularizer"),
        (SGD(0.1, clipnorm=1.0), "clipnorm.*clip_norm"),
        (Adam(0.1, amsgrad=True), "amsgrad.*plain Adam"),
        (keras.optimizers.AdamW(0.1), "AdamW.*"),
        (keras.optimizers.RMSprop(0.1), "RMSprop.*use SGD"),
    ],
)
def test_an_optimizer_that_does_not_convert_is_refused_with_what_to_use(
    optimizer: Any,  # noqa: ANN401
    complaint: str,
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        optimizer_of(smooth(optimizer), PARAMETERS)


def test_a_constraint_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"constraint.*regularizer"):
        optimizer_of(smooth(SGD(0.1), kernel_constraint="non_neg"), PARAMETERS)
