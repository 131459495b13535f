"""What every runtime of ours keeps to; a new runtime joins RUNTIMES."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from broker.layout import Layout, Theta
from broker.messages import TrainingSettings
from edge_agent.data.examples import Examples
from edge_agent.runtimes.base import Runtime, Trained
from host.errors import WireError

COUNT = 70
SETTINGS = TrainingSettings(epochs=2, batch_size=16, learning_rate=0.05, seed=11)


@dataclass(frozen=True)
class Bench:
    """A runtime, and a small classifier for it."""

    runtime: Runtime
    program: bytes
    layout: Layout
    theta: Theta
    examples: Examples

    def train(self, settings: TrainingSettings = SETTINGS, optimizer: tuple[np.ndarray, ...] = ()) -> Trained:
        return self.runtime.train(self.theta, self.examples, settings, optimizer, lambda _: None)


def blobs() -> Examples:
    """Three clouds in four dimensions, one a class."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, COUNT).astype(np.int32)
    centres = np.array([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]], np.float32)
    return Examples((centres[y] + random.normal(size=(COUNT, 4))).astype(np.float32), y)


def small_classifier() -> Any:  # noqa: ANN401  Keras ships no types
    from aggregator.keras.determinism import be_deterministic, keras  # noqa: PLC0415  TensorFlow takes seconds

    be_deterministic()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def keras_bench() -> Bench:
    from aggregator.keras.program import export  # noqa: PLC0415
    from aggregator.keras.weights import theta_of  # noqa: PLC0415
    from edge_agent.runtimes.keras import KerasRuntime  # noqa: PLC0415

    model = small_classifier()
    program = export(model)
    return Bench(KerasRuntime(), program.body.encode(), program.layout, theta_of(model), blobs())


def litert_bench() -> Bench:
    from aggregator.keras.litert.export import export_litert  # noqa: PLC0415
    from aggregator.keras.weights import layout_of, theta_of  # noqa: PLC0415
    from edge_agent.runtimes.litert import LiteRTRuntime  # noqa: PLC0415

    model = small_classifier()
    body = export_litert(model, batch=SETTINGS.batch_size).to_json()
    return Bench(LiteRTRuntime(), body.encode(), layout_of(model), theta_of(model), blobs())


RUNTIMES: dict[str, Callable[[], Bench]] = {"keras": keras_bench, "litert": litert_bench}


@pytest.fixture(scope="module", params=list(RUNTIMES))
def bench(request: pytest.FixtureRequest) -> Bench:
    made = RUNTIMES[request.param]()
    made.runtime.load(made.program, made.layout)
    return made


def test_training_gives_finite_weights_of_the_same_form_and_leaves_the_old_ones(bench: Bench) -> None:
    before = bench.theta.copy()
    trained = bench.train()
    assert trained.theta.shape == bench.theta.shape
    assert trained.theta.dtype == np.float32
    assert np.isfinite(trained.theta).all()
    assert bench.theta.tobytes() == before.tobytes()


def test_training_improves_the_model(bench: Bench) -> None:
    def loss(theta: Theta) -> float:
        total, weight = bench.runtime.evaluate(theta, bench.examples)["loss"]
        return total / weight

    assert loss(bench.train(SETTINGS.model_copy(update={"epochs": 10})).theta) < 0.7 * loss(bench.theta)


def test_the_same_seed_gives_the_same_bits_whatever_came_before(bench: Bench) -> None:
    first = bench.train()
    other = bench.train(SETTINGS.model_copy(update={"seed": 12, "learning_rate": 0.5}))
    bench.runtime.evaluate(other.theta, bench.examples)
    again = bench.train()
    assert first.theta.tobytes() == again.theta.tobytes()
    assert first.metrics == again.metrics
    assert first.theta.tobytes() != other.theta.tobytes()


def test_progress_rises_to_one(bench: Bench) -> None:
    seen: list[float] = []
    bench.runtime.train(bench.theta, bench.examples, SETTINGS, (), seen.append)
    assert seen == sorted(seen)
    assert seen[0] > 0
    assert seen[-1] == pytest.approx(1)


@pytest.mark.parametrize(("steps", "examples"), [(2, 32), (10, COUNT)])
def test_the_weight_of_an_update_is_how_many_examples_it_saw(bench: Bench, steps: int, examples: int) -> None:
    assert bench.train().examples == COUNT
    settings = TrainingSettings(epochs=None, steps=steps, batch_size=16)
    assert bench.train(settings).examples == examples


def test_metrics_are_sums_that_add_up(bench: Bench) -> None:
    x, y = bench.examples
    whole = bench.runtime.evaluate(bench.theta, bench.examples)
    parts = [
        bench.runtime.evaluate(bench.theta, Examples(x[part], y[part]))
        for part in (slice(21), slice(21, None))
    ]
    assert whole
    for name, (total, weight) in whole.items():
        assert weight == COUNT == sum(part[name][1] for part in parts)
        assert total == pytest.approx(sum(part[name][0] for part in parts), rel=1e-5)


def test_kept_optimizer_state_changes_the_next_round_and_is_handed_on(bench: Bench) -> None:
    kept = tuple(bench.train().optimizer)
    fresh, going_on = bench.train(), bench.train(optimizer=kept)
    assert kept
    assert fresh.theta.tobytes() != going_on.theta.tobytes()
    assert bench.train(optimizer=kept).theta.tobytes() == going_on.theta.tobytes()


@pytest.mark.parametrize("program", [b"", b"{}", b"\xff\xfe", b'{"format": 2, "model": {}, "compile": {}}'])
def test_what_is_no_program_is_refused_and_the_runtime_goes_on(bench: Bench, program: bytes) -> None:
    with pytest.raises(WireError):
        bench.runtime.load(program, bench.layout)
    bench.runtime.load(bench.program, bench.layout)
    assert np.isfinite(bench.train().theta).all()


def test_a_program_with_other_weights_than_the_layout_is_refused(bench: Bench) -> None:
    other = Layout(trainable=bench.layout.trainable[:-1], state=bench.layout.state)
    with pytest.raises(WireError, match="layout"):
        type(bench.runtime)().load(bench.program, other)
