from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from broker.layout import Layout, Theta
from broker.messages import TrainingSettings
from edge_agent import progress
from edge_agent.data.examples import Examples
from edge_agent.progress import BLOCK, Teller, TrainingTeller, evaluate
from edge_agent.runtimes.base import MetricSums, OptimizerState, Progress, Trained

THETA = np.array([2], np.float32)
Said = list[Mapping[str, Any]]


class Clock:
    """In place of `time`: a second older each time it is looked at."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def said() -> Said:
    return []


class Summing:
    """A runtime that sums its inputs, and notes how many it got at a time."""

    def __init__(self) -> None:
        self.parts: list[int] = []

    def load(self, program: bytes, layout: Layout) -> None: ...

    def train(
        self,
        theta: Theta,
        examples: Examples,
        settings: TrainingSettings,
        optimizer: OptimizerState,
        progress: Progress,
    ) -> Trained:
        raise NotImplementedError

    def evaluate(self, theta: Theta, examples: Examples) -> MetricSums:
        self.parts.append(len(examples.x))
        sums: Any = (theta[0] * examples.x.sum(dtype=np.float32), np.int64(len(examples.x)))
        return {"sum": sums}


@pytest.mark.parametrize(
    ("batch_size", "count", "parts"),
    [
        (32, BLOCK, [BLOCK]),
        (32, 2 * BLOCK + 1, [BLOCK, BLOCK, 1]),
        (1000, 2500, [2000, 500]),
        (5000, 6000, [5000, 1000]),
        (32, 0, []),
    ],
)
def test_evaluation_goes_by_whole_batches_with_a_sign_of_life_after_each_block(
    batch_size: int, count: int, parts: list[int]
) -> None:
    runtime, seen = Summing(), list[float]()
    examples = Examples(np.ones((count, 1)), np.zeros(count))
    sums = evaluate(runtime, THETA, examples, batch_size, seen.append)
    assert runtime.parts == parts
    assert seen == [done / count for done in np.cumsum(parts)]
    assert sums == ({"sum": (2.0 * count, float(count))} if count else {})
    assert {type(value) for pair in sums.values() for value in pair} <= {float}


@pytest.mark.parametrize(
    ("fraction", "told"),
    [(np.float32(0.5), 0.5), (1 + 1e-9, 1.0), (-1, 0.0), (float("nan"), 0.0), (float("inf"), 1.0)],
    ids=["numpy", "rounded", "negative", "nan", "inf"],
)
def test_whatever_a_runtime_says_is_told_as_a_fraction(said: Said, fraction: float, told: float) -> None:
    for teller in (Teller, TrainingTeller):
        teller(100, said.append)(fraction)
        assert said[-1]["progress"] == told
        assert type(said[-1]["progress"]) is float


def test_little_is_told_between_beginning_and_end(
    said: Said, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "TOLD_EVERY_S", 10)
    telling = TrainingTeller(100, said.append)
    for step in range(50):
        telling(step / 50)
    telling.end()
    signs = [message["progress"] for message in said if message["event"] == "progress"]
    assert (signs[0], signs[-1]) == (0, 1)
    assert 3 < len(signs) < clock.now / 10 + 3
    assert len(said) == len(signs) + 1


def test_what_comes_after_training_leaves_progress_and_rate_as_they_were(said: Said) -> None:
    telling = TrainingTeller(100, said.append)
    telling.end()
    telling.again(0.5)
    assert said[-1] == said[-2]
    assert said[-1]["progress"] == 1
