"""What every runtime keeps to, ours and a user's own; a new runtime joins RUNTIMES."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from broker.layout import Layout, Theta
from broker.messages import RateSchedule, TrainingSettings
from edge_agent.data.examples import Examples
from edge_agent.runtimes.base import Runtime, Trained, check_honours
from edge_agent.runtimes.registry import create
from host.errors import ConfigError, DataError, WireError
from tests.docs.page_package import installed

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


def own_bench() -> Bench:
    """Of the class on docs/extending.md, which an entry point names."""
    layout = Layout(trainable=((4, 3), (3,)))
    return Bench(create("softmax"), b'{"shape": [4, 3]}', layout, np.zeros(layout.size, np.float32), blobs())


RUNTIMES: dict[str, Callable[[], Bench]] = {"keras": keras_bench, "litert": litert_bench, "own": own_bench}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module", params=list(RUNTIMES))
def bench(request: pytest.FixtureRequest, package: None) -> Bench:  # noqa: ARG001  installed before
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


def moved(bench: Bench, **settings: object) -> float:
    """How far a training takes the trained weights."""
    trained = bench.train(SETTINGS.model_copy(update=settings))
    return float(np.linalg.norm((trained.theta - bench.theta)[: bench.layout.trainable_size]))


def declines(bench: Bench, **settings: object) -> bool:
    """Whether the runtime does not know a setting; then a round with it ends before training."""
    (name,) = settings
    if name in bench.runtime.honours:  # type: ignore[attr-defined]  # not every runtime needs it
        check_honours(bench.runtime, "ours", SETTINGS.model_copy(update=settings))
        return False
    with pytest.raises(ConfigError, match=f"runtime 'ours' does not know {name}: "):
        check_honours(bench.runtime, "ours", SETTINGS.model_copy(update=settings))
    return True


def test_what_every_runtime_keeps_to_is_never_declined(bench: Bench) -> None:
    settings = {"validation_fraction": 0.5, "optimizer_state": "keep", "epochs": None, "steps": 3}
    check_honours(bench.runtime, "ours", SETTINGS.model_copy(update=settings))


def test_the_proximal_term_holds_the_weights_back_or_is_declined(bench: Bench) -> None:
    if not declines(bench, proximal=2.0):
        assert moved(bench, epochs=8, proximal=2.0) < 0.8 * moved(bench, epochs=8)
        assert moved(bench, epochs=8, proximal=0.0) == moved(bench, epochs=8)


def test_a_gradient_is_clipped_to_its_norm_or_that_is_declined(bench: Bench) -> None:
    if not declines(bench, clip_norm=0.001):
        one_step = {"epochs": None, "steps": 1}
        assert moved(bench, **one_step, clip_norm=0.001) == pytest.approx(0.001 * 0.05, rel=1e-3)
        assert moved(bench, **one_step, clip_norm=1e6) == moved(bench, **one_step, clip_norm=1e5) > 0.001


def test_a_schedule_gives_each_step_its_rate_or_is_declined(bench: Bench) -> None:
    only_round = RateSchedule(shape="linear", begin=0, end=1, rounds=1)
    if not declines(bench, schedule=only_round):
        halfway = moved(bench, epochs=None, steps=1, schedule=only_round)
        assert halfway == pytest.approx(moved(bench, epochs=None, steps=1) / 2, rel=1e-4)
        falling, rising = (
            bench.train(SETTINGS.model_copy(update={"schedule": only_round.model_copy(update=change)})).theta
            for change in ({}, {"warmup_rounds": 1})
        )
        assert falling.tobytes() != rising.tobytes() != bench.train().theta.tobytes()


def test_a_short_batch_is_dropped_or_that_is_declined(bench: Bench) -> None:
    if not declines(bench, short_batch="drop"):
        one_epoch = SETTINGS.model_copy(update={"epochs": 1, "short_batch": "drop"})
        assert bench.train(one_epoch).examples == COUNT // 16 * 16
        few = Examples(bench.examples.x[:15], bench.examples.y[:15])
        with pytest.raises(DataError, match="15 examples to train on are no whole batch of 16"):
            bench.runtime.train(bench.theta, few, one_epoch, (), lambda _: None)


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
    for runtime in (type(bench.runtime)(), bench.runtime):
        with pytest.raises(WireError, match="layout"):
            runtime.load(bench.program, other)
    bench.runtime.load(bench.program, bench.layout)
