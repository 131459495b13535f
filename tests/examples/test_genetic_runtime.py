"""The runtime in examples/xor_genetic/runtime keeps to what all runtimes do, as far as it has batches."""

import numpy as np
import pytest

from broker.layout import Layout
from broker.messages import TrainingSettings
from edge_agent.runtimes.registry import create
from examples.xor_genetic.example import SHARES
from tests.edge_agent.runtimes.test_runtime_contract import (  # noqa: F401
    Bench,
    blobs,
    test_a_program_with_other_weights_than_the_layout_is_refused,
    test_metrics_are_sums_that_add_up,
    test_progress_rises_to_one,
    test_the_same_seed_gives_the_same_bits_whatever_came_before,
    test_training_gives_finite_weights_of_the_same_form_and_leaves_the_old_ones,
    test_what_is_no_program_is_refused_and_the_runtime_goes_on,
)

PROGRAM = b'{"inputs": 4, "hidden": 5, "classes": 3}'
LAYOUT = Layout(trainable=((4, 5), (5,), (5, 3), (3,)))


@pytest.fixture(scope="module")
def bench() -> Bench:
    runtime = create("genetic")
    runtime.load(PROGRAM, LAYOUT)
    theta = np.random.default_rng(1).normal(size=LAYOUT.size).astype(np.float32)
    return Bench(runtime, PROGRAM, LAYOUT, theta, blobs())


def test_generations_improve_the_model(bench: Bench) -> None:
    def loss(theta: np.ndarray) -> float:
        total, weight = bench.runtime.evaluate(theta, bench.examples)["loss"]
        return total / weight

    bred = bench.train(TrainingSettings(epochs=40, batch_size=16, seed=3)).theta
    assert loss(bred) < 0.7 * loss(bench.theta)


def test_a_stronger_pull_stays_nearer_to_the_rounds_theta() -> None:
    layout = Layout(trainable=((2, 3), (3,), (3, 2), (2,)))
    theta = np.random.default_rng(2).normal(size=layout.size).astype(np.float32)
    moved = []
    for pull in (0.0, 1.0):
        runtime = create("genetic")
        program = f'{{"inputs": 2, "hidden": 3, "classes": 2, "pull": {pull}}}'
        runtime.load(program.encode(), layout)
        settings = TrainingSettings(epochs=30, batch_size=16, seed=4)
        trained = runtime.train(theta, SHARES["pi-1"], settings, (), lambda _: None)
        assert trained.examples == 2
        moved.append(float(np.linalg.norm(trained.theta - theta)))
    assert moved[1] < moved[0] / 2
