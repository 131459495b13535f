from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]

from aggregator.keras.determinism import be_deterministic, keras
from aggregator.keras.program import export
from aggregator.keras.weights import set_theta, theta_of
from broker.layout import Theta
from broker.litert import LiteRTBody
from broker.messages import TrainingSettings
from edge_agent.data.examples import Examples
from edge_agent.runtimes.base import Trained
from edge_agent.runtimes.keras import KerasRuntime
from edge_agent.runtimes.litert import LiteRTRuntime
from edge_agent.runtimes.order import passes
from host.errors import WireError
from tests.edge_agent.runtimes.litert_bench import (
    BATCH,
    COUNT,
    CROSS_ENTROPY,
    SETTINGS,
    Bench,
    classifier,
    images,
)

ONE_STEP = TrainingSettings(epochs=None, steps=1, batch_size=BATCH, learning_rate=0.1)


@pytest.fixture(scope="module", autouse=True)
def _deterministic() -> None:
    be_deterministic()


@pytest.fixture(scope="module")
def momentum() -> Bench:
    return classifier(keras.optimizers.SGD(0.01, momentum=0.9))


@pytest.fixture(scope="module")
def line() -> Bench:
    return Bench(keras.layers.Dense(1), optimizer=keras.optimizers.SGD(0.01))


@pytest.fixture(scope="module")
def dropping() -> Bench:
    return Bench(keras.layers.Dropout(0.5), keras.layers.Dense(3, activation="softmax"))


@pytest.fixture(scope="module")
def normed() -> Bench:
    return Bench(keras.layers.BatchNormalization(), keras.layers.Dense(3, activation="softmax"))


def vectors(count: int = COUNT) -> Examples:
    random = np.random.default_rng(4)
    return Examples(
        random.normal(3, 2, (count, 4)).astype(np.float32), random.integers(0, 3, count).astype(np.int32)
    )


def targets(count: int = COUNT) -> Examples:
    x, _ = vectors(count)
    return Examples(x, x.sum(1))


def train(
    runtime: LiteRTRuntime | KerasRuntime,
    theta: Theta,
    examples: Examples,
    settings: TrainingSettings = SETTINGS,
) -> Trained:
    return runtime.train(theta, examples, settings, (), lambda _: None)


def assert_same_steps(theta: Theta, expected: Theta, start: Theta) -> None:
    """Within 1e-4 of how far the weights moved."""
    moved = np.abs(expected - start).max()
    assert moved > 0.01
    assert np.abs(theta - expected).max() <= 1e-4 * moved


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        (SETTINGS, COUNT),
        (TrainingSettings(epochs=None, steps=7, batch_size=BATCH, learning_rate=0.05, seed=9), COUNT),
        (SETTINGS, BATCH - 3),
    ],
    ids=["epochs with a short batch each", "steps", "one short batch"],
)
def test_training_is_keras_training_step_by_step(
    momentum: Bench, settings: TrainingSettings, count: int
) -> None:
    ours = train(momentum.runtime(), momentum.theta, images(count), settings)
    keras_runtime = KerasRuntime()
    program = export(momentum.model)
    keras_runtime.load(program.body.encode(), program.layout)
    theirs = train(keras_runtime, momentum.theta, images(count), settings)
    assert_same_steps(ours.theta, theirs.theta, momentum.theta)
    assert ours.metrics["loss"] == pytest.approx(theirs.metrics["loss"], rel=1e-4)
    assert ours.examples == theirs.examples


def test_adam_takes_the_steps_of_keras_and_its_kept_state_goes_on() -> None:
    bench = classifier("adam")
    runtime = bench.runtime()
    whole = train(runtime, bench.theta, images(2 * BATCH), SETTINGS.model_copy(update={"epochs": 1}))
    going_on = runtime.train(whole.theta, images(2 * BATCH), ONE_STEP, whole.optimizer, lambda _: None)
    twin = keras.models.clone_model(bench.model)
    twin.compile(keras.optimizers.Adam(0.05), CROSS_ENTROPY)
    set_theta(twin, bench.theta)
    x, y = images(2 * BATCH)
    for settings in (SETTINGS.model_copy(update={"epochs": 1}), ONE_STEP):
        twin.optimizer.learning_rate = settings.learning_rate
        for order in passes(2 * BATCH, settings):
            twin.fit(x[order], y[order], batch_size=BATCH, shuffle=False, verbose=0)
    assert_same_steps(going_on.theta, theta_of(twin), bench.theta)


@pytest.mark.parametrize("count", [3, BATCH, COUNT])
def test_evaluation_is_that_of_keras_whatever_the_last_batch(momentum: Bench, count: int) -> None:
    sums = momentum.runtime().evaluate(momentum.theta, images(count))
    expected = momentum.model.evaluate(*images(count), verbose=0, return_dict=True)
    assert {name: total / weight for name, (total, weight) in sums.items()} == pytest.approx(
        expected, rel=1e-5
    )
    assert {weight for _, weight in sums.values()} == {count}


@pytest.mark.parametrize("count", [COUNT, 3])
def test_batch_statistics_see_a_short_batch_refilled_from_the_start_of_the_order(
    normed: Bench, count: int
) -> None:
    x, y = vectors(count)
    ours = train(normed.runtime(), normed.theta, Examples(x, y), SETTINGS)
    twin = keras.models.clone_model(normed.model)
    twin.compile(keras.optimizers.SGD(0.05), CROSS_ENTROPY)
    set_theta(twin, normed.theta)
    for order in passes(count, SETTINGS):
        full = np.resize(order, -(-count // BATCH) * BATCH)
        twin.fit(x[full], y[full], batch_size=BATCH, shuffle=False, verbose=0)
    assert_same_steps(ours.theta, theta_of(twin), normed.theta)
    assert ours.metrics["loss"][1] == len(full)
    assert ours.examples == count


def test_evaluation_with_batch_statistics_leaves_the_filling_out(normed: Bench) -> None:
    runtime = normed.runtime()
    x, y = vectors(3)
    singly = sum(
        runtime.evaluate(normed.theta, Examples(x[i : i + 1], y[i : i + 1]))["loss"][0] for i in range(3)
    )
    total, weight = runtime.evaluate(normed.theta, Examples(x, y))["loss"]
    assert total == pytest.approx(singly)
    assert weight == 3


def test_dropout_follows_from_the_seed(dropping: Bench) -> None:
    runtime = dropping.runtime()

    one = vectors(1)
    same = Examples(one.x.repeat(BATCH, 0), one.y.repeat(BATCH, 0))

    def step(seed: int) -> Theta:
        """All rows are the same one, so that their order makes no difference."""
        settings = ONE_STEP.model_copy(update={"seed": seed})
        return train(runtime, dropping.theta, same, settings).theta - dropping.theta

    assert step(1).tobytes() == step(1).tobytes()
    assert np.abs(step(1) - step(2)).max() > 0.1 * np.abs(step(1)).max()


def test_the_learning_rate_is_the_rounds_or_else_the_programs(line: Bench) -> None:
    runtime = line.runtime()
    as_compiled = train(runtime, line.theta, targets(), ONE_STEP.model_copy(update={"learning_rate": None}))
    doubled = train(runtime, line.theta, targets(), ONE_STEP.model_copy(update={"learning_rate": 0.02}))
    np.testing.assert_allclose(doubled.theta - line.theta, 2 * (as_compiled.theta - line.theta), rtol=1e-4)


def test_another_optimizers_kept_state_begins_afresh(momentum: Bench) -> None:
    runtime = momentum.runtime()
    fresh = train(runtime, momentum.theta, images())
    for odd in ([np.ones(3, np.float32)], [np.ones(fresh.optimizer[0].shape)], [fresh.optimizer[0]] * 2):
        again = runtime.train(momentum.theta, images(), SETTINGS, odd, lambda _: None)
        assert again.theta.tobytes() == fresh.theta.tobytes()


def test_bytes_are_trained_on_as_the_numbers_that_they_are(momentum: Bench) -> None:
    runtime = momentum.runtime()
    x = np.random.default_rng(5).integers(0, 4, (COUNT, 6, 6)).astype(np.uint8)
    y = images().y
    floats = Examples(x.astype(np.float32)[..., None], y)
    assert (
        train(runtime, momentum.theta, Examples(x, y)).theta.tobytes()
        == train(runtime, momentum.theta, floats).theta.tobytes()
    )


def test_the_same_program_again_keeps_the_interpreter(line: Bench) -> None:
    runtime = line.runtime()
    before = runtime._graph._runners["train"]
    runtime.load(line.program, line.layout)
    train(runtime, line.theta, targets())
    assert runtime._graph._runners["train"] is before


def test_a_graph_that_xnnpack_refuses_runs_without_it(line: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    class Picky(Interpreter):  # type: ignore[misc]  # LiteRT ships no types
        def __init__(self, experimental_op_resolver_type: Any, **options: Any) -> None:  # noqa: ANN401
            tried.append(experimental_op_resolver_type)
            if experimental_op_resolver_type is OpResolverType.AUTO:
                raise RuntimeError("failed to delegate")
            super().__init__(experimental_op_resolver_type=experimental_op_resolver_type, **options)

    expected = train(line.runtime(), line.theta, targets())
    monkeypatch.setattr("edge_agent.runtimes.litert_graph.Interpreter", Picky)
    trained = train(line.runtime(), line.theta, targets())
    assert tried == [OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES]
    np.testing.assert_allclose(trained.theta, expected.theta, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": SETTINGS.model_copy(update={"batch_size": 32})}, "batches of 8, the round asks for 32"),
        ({"theta": np.zeros(3, np.float32)}, r"theta is float32\(3,\)"),
        ({"theta": np.zeros(5)}, "theta is float64"),
        (
            {"examples": Examples(np.zeros((4, 5), np.float32), np.zeros(4, np.float32))},
            r"inputs are float32\(5,\)",
        ),
        ({"examples": Examples(np.zeros((4, 4)), np.zeros((4, 2)))}, r"targets are float64\(2,\)"),
        ({"examples": Examples(np.zeros((4, 4), np.complex64), np.zeros(4))}, "inputs are complex64"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_what_does_not_fit_the_program_is_refused_and_the_runtime_goes_on(
    line: Bench, change: dict[str, Any], message: str
) -> None:
    runtime = line.runtime()
    fine: dict[str, Any] = {"theta": line.theta, "examples": targets(), "settings": SETTINGS}
    with pytest.raises(WireError, match=message):
        train(runtime, **{**fine, **change})
    assert np.isfinite(train(runtime, **fine).theta).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 9}, "inputs of 'train'"),
        ({"optimizer_size": 2}, "inputs of 'train'"),
        ({"x_shape": (2, 2)}, "inputs of 'train'"),
        ({"classes": True}, "inputs of 'train'"),
        ({"metrics": ("loss", "mae", "mse")}, "outputs of 'evaluate'"),
        ({"optimizer_size": 1000}, "1000 values of optimizer state for 5 weights"),
        ({"batch": 65_536, "x_shape": (65_536,)}, "smaller batch"),
        ({"tflite": b"TFL3"}, "cannot be run"),
        ({"tflite": bytes(1000)}, "cannot be run"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_a_program_that_is_not_what_it_says_is_refused(
    line: Bench, change: dict[str, Any], message: str
) -> None:
    body = LiteRTBody.model_validate(line.body.model_dump() | change)
    with pytest.raises(WireError, match=message):
        LiteRTRuntime().load(body.to_json().encode(), line.layout)


def test_a_stochastic_program_without_seeds_is_refused(dropping: Bench) -> None:
    unseeded = dropping.body.model_copy(update={"tflite": without_seeds(dropping.body.tflite)})
    with pytest.raises(WireError, match="without a seed"):
        LiteRTRuntime().load(unseeded.to_json().encode(), dropping.layout)


def without_seeds(tflite: bytes) -> bytes:
    """Have the operators' tables say that they hold no first seed."""
    changed = bytearray(tflite)
    model = schema.Model.GetRootAs(changed)
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            if operator.BuiltinOptionsType() == schema.BuiltinOptions.RandomOptions:
                options = operator.BuiltinOptions()
                vtable = options.Pos - options.Get(schema.flatbuffers.number_types.SOffsetTFlags, options.Pos)
                changed[vtable + 4 : vtable + 6] = bytes(2)
    return bytes(changed)
