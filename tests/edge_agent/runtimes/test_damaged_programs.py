from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.keras.determinism import be_deterministic
from broker.contract import DataContract
from broker.layout import Layout
from broker.litert import LiteRTBody
from broker.messages import DeclineReason
from broker.program import Program
from edge_agent.data.examples import Examples
from edge_agent.events import Trained, TrainingFailed
from tests.edge_agent.runtimes.device import Device, Job
from tests.edge_agent.runtimes.litert_bench import SETTINGS, classifier
from tests.fuzz.mutations import REFUSED, Model, survive

MUTATIONS = 60
BATCH = SETTINGS.batch_size
LAYOUT = Layout(trainable=((3,),))
MEMORY_BYTES = 512 << 20
# Of float32: four times as much.
HUGE = (1 << 15, 1 << 14)
Json = dict[str, Any]


@pytest.mark.timeout(300)
def test_damaged_programs_end_the_job_or_the_child_and_the_next_job_is_done(tmp_path: Path) -> None:
    be_deterministic()
    model = Model.of("cnn", classifier("sgd"))
    kinds = Counter(kind for _, kind, _ in survive(tmp_path, model, range(MUTATIONS), trainer_silence_s=30))
    assert kinds.total() == MUTATIONS
    assert kinds[REFUSED] > MUTATIONS / 3


@cache
def hostile(loss: Callable[[Any], Any]) -> bytes:
    """A program in good order, whose loss is computed as no exporter would have it."""
    import tensorflow as tf  # noqa: PLC0415  takes seconds

    from aggregator.keras.litert.conversion import convert  # noqa: PLC0415

    theta, one, weight = (tf.TensorSpec([size]) for size in (3, 1, BATCH))
    batch = {"x": tf.TensorSpec([BATCH, 2]), "y": tf.TensorSpec([BATCH], tf.int32), "weight": weight}

    def train(**given: Any) -> Json:  # noqa: ANN401  TensorFlow ships no types
        return {"theta": given["theta"] + given["lr"], "opt": given["opt"] + 0.0, "loss": loss(given["lr"])}

    def evaluate(**given: Any) -> Json:  # noqa: ANN401
        return {"sums": given["theta"][:1] * 1.0, "weight": tf.reduce_sum(given["weight"], keepdims=True)}

    functions = {
        "train": tf.function(train).get_concrete_function(theta=theta, opt=one, lr=one, **batch),
        "evaluate": tf.function(evaluate).get_concrete_function(theta=theta, **batch),
    }
    body = LiteRTBody(
        batch=BATCH,
        optimizer_size=1,
        learning_rate=0.1,
        metrics=("loss",),
        classes=True,
        x_shape=(2,),
        x_dtype="float32",
        y_shape=(),
        batch_statistics=False,
        tflite=convert(functions),
    )
    return Program(layout=LAYOUT, runtime="litert", body=body.to_json()).to_bytes()


def harmless(rate: Any) -> Any:  # noqa: ANN401
    return rate * 2.0


def greedy(rate: Any) -> Any:  # noqa: ANN401
    import tensorflow as tf  # noqa: PLC0415

    shape = tf.cast(rate[0] * 0, tf.int32) + HUGE
    return tf.reshape(tf.reduce_sum(tf.broadcast_to(tf.reshape(rate, [1, 1]), shape) * 2.0), [1])


def greedy_from_the_start(rate: Any) -> Any:  # noqa: ANN401
    import tensorflow as tf  # noqa: PLC0415

    return tf.reshape(tf.reduce_sum(tf.cumsum(tf.broadcast_to(tf.reshape(rate, [1, 1]), HUGE))), [1])


def endless(rate: Any) -> Any:  # noqa: ANN401
    import tensorflow as tf  # noqa: PLC0415

    return tf.while_loop(lambda value: value[0] >= 0.0, lambda value: (value * 1.0,), [rate * 0 + 1])[0]


@pytest.fixture
def job() -> Job:
    examples = Examples(np.zeros((20, 2), np.float32), np.zeros(20, np.int32))
    contract = DataContract(shape=(2,), classes=("a", "b"))
    return Job(LAYOUT.digest, np.zeros(3, np.float32), examples, contract, SETTINGS)


@pytest.mark.parametrize(
    ("loss", "detail"),
    [(greedy, "'train' failed"), (greedy_from_the_start, "perhaps out of the memory")],
    ids=["when run", "when loaded"],
)
def test_a_program_that_wants_more_memory_than_there_is_is_refused_and_the_child_goes_on(
    tmp_path: Path, job: Job, loss: Callable[[Any], Any], detail: str
) -> None:
    with Device(tmp_path, job, trainer_memory_bytes=MEMORY_BYTES) as device:
        assert isinstance(device.train(hostile(harmless)), Trained)
        child = device.pid
        outcome = device.train(hostile(loss))
        assert isinstance(outcome, TrainingFailed)
        assert outcome.reason is DeclineReason.PROGRAM
        assert detail in outcome.detail
        assert isinstance(device.train(hostile(harmless)), Trained)
        assert device.pid == child


def test_a_program_that_never_ends_is_ended(tmp_path: Path, job: Job) -> None:
    with Device(tmp_path, job) as device:
        assert isinstance(device.train(hostile(harmless)), Trained)
        outcome = device.train(hostile(endless), silence_s=1)
        assert isinstance(outcome, TrainingFailed)
        assert outcome.reason is DeclineReason.TRAINING_FAILED
        assert "said nothing for 1 s" in outcome.detail
        assert isinstance(device.train(hostile(harmless)), Trained)
