import json
from typing import Any

import numpy as np
import pytest

from aggregator.keras.determinism import keras
from aggregator.keras.program import export
from aggregator.keras.weights import set_theta, theta_of
from broker.layout import Theta
from broker.messages import RateSchedule, TrainingSettings
from broker.program import Program
from edge_agent.data.examples import Examples
from edge_agent.runtimes.keras import KerasRuntime
from edge_agent.runtimes.order import passes
from host.errors import ConfigError, WireError

COUNT = 50
SETTINGS = TrainingSettings(epochs=2, batch_size=16, seed=3)


@pytest.fixture(scope="module")
def runtime() -> KerasRuntime:
    return KerasRuntime()


def compiled(*layers: Any, shape: tuple[int, ...] = (4,), optimizer: Any = "adam") -> Any:  # noqa: ANN401
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input(shape), *layers])
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def regression(shape: tuple[int, ...] = (4,)) -> Examples:
    random = np.random.default_rng(4)
    x = random.normal(3, 2, (COUNT, *shape)).astype(np.float32)
    return Examples(x, x.reshape(COUNT, -1).sum(1).astype(np.float32))


def loaded(runtime: KerasRuntime, model: Any) -> tuple[Program, Theta]:  # noqa: ANN401
    program, theta = export(model), theta_of(model)
    runtime.load(program.body.encode(), program.layout)
    return program, theta


def train(
    runtime: KerasRuntime, theta: Theta, examples: Examples, settings: TrainingSettings = SETTINGS
) -> Theta:
    return runtime.train(theta, examples, settings, (), lambda _: None).theta


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        TrainingSettings(epochs=None, steps=7, batch_size=16, seed=9),
        SETTINGS.model_copy(update={"batch_size": 64}),
    ],
    ids=["epochs", "steps", "one short batch"],
)
def test_training_is_what_keras_fit_does_bit_by_bit(
    runtime: KerasRuntime, settings: TrainingSettings
) -> None:
    model = compiled(
        keras.layers.Dense(5, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Dense(1)
    )
    examples = regression()
    _, theta = loaded(runtime, model)
    trained = runtime.train(theta, examples, settings, (), lambda _: None)
    twin = keras.models.clone_model(model)
    twin.compile("adam", "mse", metrics=["mae"])
    set_theta(twin, theta)
    for rows in passes(COUNT, settings, full_batches=True):
        history = twin.fit(
            examples.x[rows], examples.y[rows], batch_size=settings.batch_size, shuffle=False, verbose=0
        )
        count = len(rows)
    assert trained.theta.tobytes() == theta_of(twin).tobytes()
    assert {name: total / weight for name, (total, weight) in trained.metrics.items()} == pytest.approx(
        {name: values[-1] for name, values in history.history.items()}
    )
    assert {weight for _, weight in trained.metrics.values()} == {count}


def test_the_same_program_again_keeps_model_and_traces(runtime: KerasRuntime) -> None:
    program, theta = loaded(runtime, compiled(keras.layers.Dense(1)))
    train(runtime, theta, regression())
    before = (runtime._model, runtime._model.train_function)
    runtime.load(program.body.encode(), program.layout)
    train(runtime, theta, regression(), SETTINGS.model_copy(update={"learning_rate": 0.5}))
    assert (runtime._model, runtime._model.train_function) == before


def test_a_learning_rate_replaces_the_compiled_one_for_one_round_only(runtime: KerasRuntime) -> None:
    _, theta = loaded(runtime, compiled(keras.layers.Dense(1), optimizer=keras.optimizers.SGD(0.01)))
    one_step = TrainingSettings(epochs=None, steps=1, batch_size=COUNT)
    as_compiled = train(runtime, theta, regression(), one_step) - theta
    doubled = train(runtime, theta, regression(), one_step.model_copy(update={"learning_rate": 0.02})) - theta
    np.testing.assert_allclose(doubled, 2 * as_compiled, rtol=1e-4)
    assert (train(runtime, theta, regression(), one_step) - theta).tobytes() == as_compiled.tobytes()


def test_a_schedule_goes_on_by_itself_and_gives_way_to_a_constant_rate(runtime: KerasRuntime) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=1, decay_rate=0.5)
    _, theta = loaded(runtime, compiled(keras.layers.Dense(1), optimizer=keras.optimizers.SGD(schedule)))
    scheduled = train(runtime, theta, regression())
    constant = train(runtime, theta, regression(), SETTINGS.model_copy(update={"learning_rate": 0.01}))
    loaded(runtime, compiled(keras.layers.Dense(1), optimizer=keras.optimizers.SGD(0.01)))
    assert train(runtime, theta, regression()).tobytes() == constant.tobytes()
    loaded(runtime, compiled(keras.layers.Dense(1), optimizer=keras.optimizers.SGD(schedule)))
    train(runtime, theta, regression(), SETTINGS.model_copy(update={"learning_rate": 0.01}))
    assert train(runtime, theta, regression()).tobytes() == scheduled.tobytes() != constant.tobytes()


def test_two_schedules_are_refused_and_a_learning_rate_makes_it_one(runtime: KerasRuntime) -> None:
    asked = SETTINGS.model_copy(
        update={"schedule": RateSchedule(shape="linear", begin=0, end=1, rounds=1), "learning_rate": 0.01}
    )
    decay = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=1, decay_rate=0.5)
    _, theta = loaded(runtime, compiled(keras.layers.Dense(1), optimizer=keras.optimizers.SGD(decay)))
    with pytest.raises(ConfigError, match=r"schedule of its own.*give the run a learning_rate"):
        train(runtime, theta, regression(), asked.model_copy(update={"learning_rate": None}))
    replaced = train(runtime, theta, regression(), asked)
    loaded(runtime, compiled(keras.layers.Dense(1), optimizer=keras.optimizers.SGD(0.5)))
    assert train(runtime, theta, regression(), asked).tobytes() == replaced.tobytes()


def test_clipping_is_that_of_keras_global_clipnorm(runtime: KerasRuntime) -> None:
    clipped = {}
    for name, norm, asked in (("keras", 0.5, {}), ("ours", None, {"clip_norm": 0.5}), ("plain", None, {})):
        optimizer = keras.optimizers.SGD(0.01, global_clipnorm=norm)
        layers = keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)
        _, theta = loaded(runtime, compiled(*layers, optimizer=optimizer))
        clipped[name] = train(runtime, theta, regression(), SETTINGS.model_copy(update=asked))
    np.testing.assert_allclose(clipped["ours"], clipped["keras"], atol=1e-7)
    assert np.abs(clipped["ours"] - clipped["plain"]).max() > 0.01


def test_the_norm_of_an_embedding_is_that_of_its_whole_gradient(runtime: KerasRuntime) -> None:
    """Keras' own clipping counts each use of a row by itself."""
    layers = keras.layers.Embedding(3, 4), keras.layers.Flatten(), keras.layers.Dense(1)
    _, theta = loaded(runtime, compiled(*layers, optimizer=keras.optimizers.SGD(0.01)))
    x = np.random.default_rng(6).integers(0, 3, (COUNT, 4)).astype(np.float32)
    asked = TrainingSettings(steps=1, batch_size=16, clip_norm=0.5)
    moved = train(runtime, theta, Examples(x, x.sum(1)), asked) - theta
    assert np.linalg.norm(moved) == pytest.approx(0.01 * 0.5, rel=1e-4)


def test_another_optimizers_kept_state_begins_afresh(runtime: KerasRuntime) -> None:
    _, theta = loaded(runtime, compiled(keras.layers.Dense(1)))
    fresh = train(runtime, theta, regression())
    odd = [np.zeros(3, np.float32)]
    assert (
        runtime.train(theta, regression(), SETTINGS, odd, lambda _: None).theta.tobytes() == fresh.tobytes()
    )


def test_batch_norm_statistics_travel_behind_the_trained_weights(runtime: KerasRuntime) -> None:
    program, theta = loaded(runtime, compiled(keras.layers.BatchNormalization(), keras.layers.Dense(1)))
    assert program.layout.state == ((4,), (4,))
    delta = train(runtime, theta, regression()) - theta
    assert np.abs(delta[program.layout.trainable_size :]).min() > 0


def test_normalization_uses_the_statistics_of_theta_also_when_they_change(runtime: KerasRuntime) -> None:
    layer = keras.layers.Normalization()
    layer.adapt(regression().x)
    model = compiled(layer, keras.layers.Dense(1))
    program, theta = loaded(runtime, model)
    assert program.layout.state == ((4,), (4,))
    for shift in (0, 5):
        theta = theta.copy()
        theta[-8:] += np.float32(shift)
        set_theta(model, theta)
        expected = model.evaluate(*regression(), verbose=0, return_dict=True)["loss"]
        total, weight = runtime.evaluate(theta, regression())["loss"]
        assert total / weight == pytest.approx(expected, rel=1e-5)
        train(runtime, theta, regression())


def test_bytes_and_rescaling_train_an_image_classifier(runtime: KerasRuntime) -> None:
    random = np.random.default_rng(5)
    x = random.integers(0, 256, (COUNT, 8, 8, 1)).astype(np.uint8)
    y = (x.mean((1, 2, 3)) > 127).astype(np.int32)
    model = compiled(
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(2, 3),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation="softmax"),
        shape=(8, 8, 1),
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    _, theta = loaded(runtime, model)
    assert np.isfinite(train(runtime, theta, Examples(x, y))).all()


@pytest.mark.parametrize(
    "layer",
    [
        {"class_name": "Lambda", "module": "keras.layers", "config": {}},
        {"class_name": "Popen", "module": "subprocess", "config": {"args": ["true"]}},
        {"class_name": "Own", "module": None, "registered_name": "mine>Own", "config": {}},
        {"class_name": "NoSuchLayer", "module": "keras.layers", "config": {}},
    ],
    ids=lambda layer: str(layer["class_name"]),
)
def test_a_program_that_needs_code_is_refused(runtime: KerasRuntime, layer: dict[str, Any]) -> None:
    program = export(compiled(keras.layers.Dense(1)))
    body = json.loads(program.body)
    body["model"]["config"]["layers"].append(layer)
    with pytest.raises(WireError):
        runtime.load(json.dumps(body).encode(), program.layout)
