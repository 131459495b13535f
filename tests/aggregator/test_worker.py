import json
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest

from aggregator.evaluator import MODULE
from broker.layout import Layout
from broker.program import Program
from host.children import Child

WAIT_S = 60
Json = dict[str, Any]

# A regression whose right theta is known: y = 2 * x0 - x1.
TASK = """
import keras
import numpy as np

data_contract = {"shape": [2]}
needs = {"memory_bytes": 1 << 29, "examples_per_s": 0.5}
seeds = keras.random.SeedGenerator(1)  # TensorFlow is at work before the file has been run

def build_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    return model

def test_data():
    x = np.arange(20, dtype="float32").reshape(10, 2)
    return x, 2 * x[:, 0] - x[:, 1]
"""
RIGHT = np.array([2, -1, 0], np.float32)

# A task without Keras, of the same weights; its program tells what has been imported.
PLAIN = """
import sys
import numpy as np

runtime = "softmax"
data_contract = {"shape": [2]}
needs = {"tags": ["indoor"]}

def initial_theta():
    return [np.zeros((2, 1), np.float32), np.zeros(1, np.float32)]

def program():
    return ",".join(name for name in ("keras", "tensorflow") if name in sys.modules)

def evaluate(weights):
    return {"size": (sum(np.abs(weight).sum() for weight in weights), 5)}
"""


class Worker:
    """The worker's process, as the aggregator would start it."""

    def __init__(self) -> None:
        self._answers: Queue[Json] = Queue()
        self.child = Child(
            MODULE,
            on_message=self._answers.put,
            on_exit=lambda how: self._answers.put({"event": how}),
        )

    def ask(self, **request: Any) -> Json:  # noqa: ANN401
        if request["verb"] == "build":
            request = {"runtime": "keras"} | request
        paths = {key: str(value) if isinstance(value, Path) else value for key, value in request.items()}
        self.child.send(paths)
        return self._answers.get(timeout=WAIT_S)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    started = Worker()
    yield started
    started.child.kill()


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "task.py"
    path.write_text(TASK)
    return path


def write_theta(folder: Path, theta: np.ndarray[Any, np.dtype[np.float32]]) -> Path:
    path = folder / "given.f32"
    path.write_bytes(theta.astype("<f4").tobytes())
    return path


def test_build_writes_theta_and_program_and_can_be_repeated(
    worker: Worker, task: Path, tmp_path: Path
) -> None:
    built = worker.ask(verb="build", task=task, folder=tmp_path, seed=1, initial=None)
    program = Program.from_bytes(Path(built["program"]).read_bytes())
    theta = Path(built["theta"]).read_bytes()
    assert built == {
        "event": "built",
        "theta": str(tmp_path / "theta.f32"),
        "program": str(tmp_path / "program.json"),
        "layout": Layout(trainable=((2, 1), (1,))).digest,
        "parameters": 3,
        "contract": {"shape": [2], "dtype": "float32", "classes": None, "target_shape": []},
        "needs": {
            "memory_bytes": 1 << 29,
            "cores": 0,
            "machine": "",
            "tags": [],
            "examples": 1,
            "examples_per_s": 0.5,
        },
        "test_examples": 10,
    }
    assert program.layout.digest == built["layout"]
    before = Path(built["program"]).read_bytes()
    assert worker.ask(verb="build", task=task, folder=tmp_path, seed=1, initial=None) == built
    assert Path(built["theta"]).read_bytes() == theta
    assert Path(built["program"]).read_bytes() == before
    worker.ask(verb="build", task=task, folder=tmp_path, seed=2, initial=None)
    assert Path(built["theta"]).read_bytes() != theta


def test_evaluate_measures_and_saves_a_model_that_can_be_the_beginning_of_another_run(
    worker: Worker, task: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "model.keras"
    answer = worker.ask(
        verb="evaluate", task=task, theta=write_theta(tmp_path, RIGHT), model=saved.with_suffix("")
    )
    assert (answer["event"], answer["model"]) == ("evaluated", str(saved)), answer
    assert answer["metrics"] == {
        "loss": [pytest.approx(0, abs=1e-6), 10],
        "mae": [pytest.approx(0, abs=1e-6), 10],
    }
    wrong = write_theta(tmp_path, RIGHT + np.array([0, 0, 3], np.float32))
    answer = worker.ask(verb="evaluate", task=task, theta=wrong, model=tmp_path / "wrong")
    assert answer["metrics"] == {"loss": [pytest.approx(90), 10], "mae": [pytest.approx(30), 10]}
    for initial in (saved, write_theta(tmp_path, RIGHT)):
        built = worker.ask(verb="build", task=task, folder=tmp_path, seed=1, initial=initial)
        assert Path(built["theta"]).read_bytes() == RIGHT.tobytes()


def test_the_saved_model_loads_with_plain_keras(worker: Worker, task: Path, tmp_path: Path) -> None:
    from aggregator.keras.determinism import be_deterministic, keras  # noqa: PLC0415  TensorFlow takes seconds

    be_deterministic()
    worker.ask(verb="evaluate", task=task, theta=write_theta(tmp_path, RIGHT), model=tmp_path / "model")
    model = keras.models.load_model(tmp_path / "model.keras")
    assert model.predict(np.array([[3, 1]], np.float32), verbose=0).tolist() == [[5]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.f32", "model.keras", "task.py"]


# Three classes of one-hot inputs: theta says which is taken for which.
CLASSES = """
import keras
import numpy as np

data_contract = {"shape": [3], "classes": ["ant", "bee", "cat"]}

def build_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

def test_data():
    return np.eye(3, dtype="float32")[[0, 0, 1, 2]], np.array([0, 0, 1, 2])
"""


def test_where_there_are_classes_the_confusion_lies_beside_the_model(
    worker: Worker, task: Path, tmp_path: Path
) -> None:
    from aggregator.keras.determinism import keras  # noqa: PLC0415  TensorFlow takes seconds

    task.write_text(CLASSES)
    theta = write_theta(tmp_path, np.array([9, 0, 0, 9, 0, 0, 0, 0, 9, 0, 0, 0], np.float32))
    asked = {"verb": "evaluate", "task": task, "theta": theta, "model": tmp_path / "round-0007"}
    answer = worker.ask(**asked)
    assert answer["metrics"]["accuracy"] == [pytest.approx(3), 4]
    beside = tmp_path / "round-0007.confusion.json"
    counted = {"classes": ["ant", "bee", "cat"], "counts": [[2, 0, 0], [1, 0, 0], [0, 0, 1]]}
    assert json.loads(beside.read_text()) == counted
    assert len(keras.models.load_model(answer["model"]).weights) == 2, "the model knows nothing of it"
    beside.unlink()
    beside.mkdir()
    (beside / "in the way").touch()
    assert worker.ask(**asked) == answer, "a disk that does not take it is no reason to fail"


def test_without_held_out_data_metrics_are_none(worker: Worker, task: Path, tmp_path: Path) -> None:
    task.write_text(TASK + "\ndel test_data\n")
    answer = worker.ask(
        verb="evaluate", task=task, theta=write_theta(tmp_path, RIGHT), model=tmp_path / "model"
    )
    assert answer == {"event": "evaluated", "model": str(tmp_path / "model.keras"), "metrics": None}


def test_what_goes_wrong_is_told_and_the_worker_goes_on(worker: Worker, task: Path, tmp_path: Path) -> None:
    def build(**change: Any) -> Json:  # noqa: ANN401
        return worker.ask(**{"verb": "build", "task": task, "folder": tmp_path, "seed": 1} | change)

    short, odd = write_theta(tmp_path, RIGHT[1:]), tmp_path / "odd.keras"
    odd.write_bytes(b"no model")
    failures = [
        (build(task=tmp_path / "none.py"), "none.py: no Python file"),
        (build(seed="x"), "request, build.seed"),
        (build(verb="dance"), "dance"),
        (build(folder=tmp_path / "none"), "No such file"),
        (build(initial=short), "theta of 8 bytes, the task needs 12"),
        (build(initial=odd), "odd.keras: no Keras model"),
        (build(initial=odd.with_suffix(".npz")), "begins from a .keras file"),
        (build(initial=write_theta(tmp_path, RIGHT * np.float32("nan"))), "not finite"),
    ]
    for answer, complaint in failures:
        assert answer["event"] == "failed"
        assert complaint in answer["detail"]
    task.write_text(TASK.replace("keras.layers.Dense(1)", "keras.layers.Dense(oops)"))
    assert build()["detail"] == "task.py line 10: NameError: name 'oops' is not defined"
    task.write_text(TASK)
    assert build()["event"] == "built"


def test_what_does_not_convert_is_told_with_the_runtime_that_takes_it(
    worker: Worker, task: Path, tmp_path: Path
) -> None:
    def build(**change: Any) -> Json:  # noqa: ANN401
        return worker.ask(verb="build", task=task, folder=tmp_path, seed=1, **change)

    decay = "keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9))"
    task.write_text(TASK.replace('"sgd"', decay))
    refused = build(runtime="litert")
    assert refused["event"] == "failed"
    assert "optimizer: a schedule as learning_rate does not convert" in refused["detail"]
    assert refused["detail"].endswith('or set runtime = "keras", for devices with TensorFlow')
    assert build(runtime="keras")["event"] == "built"
    twice = build(runtime="keras", scheduled=True)["detail"]
    assert "a schedule of its own, and the run has another one: give the run a learning_rate" in twice


def test_a_task_without_keras_is_built_measured_and_saved_without_tensorflow(
    task: Path, tmp_path: Path
) -> None:
    task.write_text(PLAIN)
    fresh = Worker()
    try:
        built = fresh.ask(verb="build", task=task, folder=tmp_path, seed=1, initial=None)
        given, asked = write_theta(tmp_path, RIGHT), tmp_path / "round-0001"
        measured = fresh.ask(verb="evaluate", task=task, theta=given, model=asked)
        saved = Path(measured["model"])
        again = fresh.ask(verb="build", task=task, folder=tmp_path, seed=1, initial=saved)
    finally:
        fresh.child.kill()
    program = Program.from_bytes((tmp_path / "program.json").read_bytes())
    assert (program.runtime, program.body) == ("softmax", "")
    assert (built["event"], built["layout"], built["test_examples"]) == ("built", program.layout.digest, 5)
    assert measured == {
        "event": "evaluated",
        "model": str(tmp_path / "round-0001.npz"),
        "metrics": {"size": [3, 5]},
    }
    assert Path(again["theta"]).read_bytes() == RIGHT.tobytes()
    assert not asked.exists()


def test_one_worker_does_both_kinds_of_tasks(worker: Worker, task: Path, tmp_path: Path) -> None:
    for text, event in ((PLAIN, "built"), (TASK, "built"), (PLAIN.replace("runtime", "# runtime"), "failed")):
        task.write_text(text)
        answer = worker.ask(verb="build", task=task, folder=tmp_path, seed=1, initial=None)
        assert answer["event"] == event
    assert "no function build_model(), nor a line `runtime = ...`" in answer["detail"]
