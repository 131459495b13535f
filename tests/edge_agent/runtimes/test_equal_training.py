"""LiteRT and Keras take the same steps, whatever the announcement asks of a training."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from aggregator.keras.determinism import be_deterministic, keras
from aggregator.keras.program import export
from broker.layout import Theta
from broker.messages import RateSchedule, TrainingSettings
from edge_agent.data.examples import Examples
from edge_agent.runtimes.base import Trained
from edge_agent.runtimes.keras import KerasRuntime
from edge_agent.runtimes.litert import LiteRTRuntime
from tests.edge_agent.runtimes.litert_bench import BATCH, Bench

COUNT = 28  # the last batch of an epoch is short
PLAIN = TrainingSettings(epochs=3, batch_size=BATCH, learning_rate=0.05, seed=3)
SCHEDULE = RateSchedule(shape="cosine", begin=1, end=2, rounds=3, warmup_rounds=1, final_rate=0.1)
PROXIMAL, CLIP, SCHEDULED, DROP = (
    {"proximal": 0.5},
    {"clip_norm": 0.3},
    {"schedule": SCHEDULE},
    {"short_batch": "drop"},
)
OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.05),
}


@dataclass(frozen=True)
class Pair:
    """The same model in both runtimes."""

    litert: LiteRTRuntime
    keras: KerasRuntime
    theta: Theta
    trainable: int
    plain: Theta
    """Trained by Keras without anything asked for."""

    def train(self, settings: TrainingSettings, *rounds: TrainingSettings) -> tuple[Trained, Trained]:
        """Train one round after another, each from the theta of the last, with kept optimizer state."""
        results = []
        for runtime in (self.litert, self.keras):
            trained = runtime.train(self.theta, examples(), settings, (), lambda _: None)
            for later in rounds:
                trained = runtime.train(trained.theta, examples(), later, trained.optimizer, lambda _: None)
            results.append(trained)
        return results[0], results[1]


@pytest.fixture(scope="module", params=list(OPTIMIZERS))
def pair(request: pytest.FixtureRequest) -> Pair:
    be_deterministic()
    keras.utils.set_random_seed(1)
    bench = Bench(
        keras.layers.BatchNormalization(),
        keras.layers.Dense(6, activation="tanh"),
        keras.layers.Dense(3, activation="softmax"),
        optimizer=OPTIMIZERS[request.param](),
    )
    program, runtime = export(bench.model), KerasRuntime()
    runtime.load(program.body.encode(), program.layout)
    plain = runtime.train(bench.theta, examples(), PLAIN, (), lambda _: None).theta
    return Pair(bench.runtime(), runtime, bench.theta, bench.layout.trainable_size, plain)


def examples() -> Examples:
    random = np.random.default_rng(4)
    y = random.integers(0, 3, COUNT).astype(np.int32)
    x = random.normal(1, 2, (COUNT, 4)) + np.eye(3, 4)[y]
    return Examples(x.astype(np.float32), y)


def assert_same(ours: Trained, theirs: Trained, start: Theta) -> None:
    """Within 1e-4 of how far the weights moved, statistics of batches among them."""
    furthest = np.abs(theirs.theta - start).max()
    assert furthest > 0.01
    assert np.abs(ours.theta - theirs.theta).max() <= 1e-4 * furthest
    assert ours.examples == theirs.examples
    assert ours.metrics["loss"] == pytest.approx(theirs.metrics["loss"], rel=1e-4)


@pytest.mark.parametrize(
    "asked",
    [PROXIMAL, CLIP, SCHEDULED, DROP, PROXIMAL | CLIP | SCHEDULED | DROP],
    ids=["proximal", "clip_norm", "schedule", "drop", "all"],
)
def test_both_runtimes_do_what_is_asked_in_the_same_way(pair: Pair, asked: dict[str, Any]) -> None:
    ours, theirs = pair.train(PLAIN.model_copy(update=asked))
    assert_same(ours, theirs, pair.theta)
    trained, statistics = slice(pair.trainable), slice(pair.trainable, None)
    assert np.abs(theirs.theta - pair.plain)[trained].max() > 0.002
    assert np.abs(ours.theta - pair.theta)[statistics].min() > 0


def test_both_go_on_from_round_to_round_with_kept_state_and_other_settings(pair: Pair) -> None:
    first = PLAIN.model_copy(update={"epochs": 1, **PROXIMAL, **CLIP, **SCHEDULED})
    second = first.model_copy(update={"schedule": SCHEDULE.model_copy(update={"begin": 2, "end": 3})})
    last = PLAIN.model_copy(update={"epochs": None, "steps": 3, "learning_rate": None})
    assert_same(*pair.train(first, second, last), pair.theta)
