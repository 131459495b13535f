from pathlib import Path

import numpy as np
import pytest

from aggregator.plain import PlainTask
from broker.layout import Layout
from host.errors import ConfigError

# A task file that works; each test replaces one piece of it.
TASK = {
    "runtime": "'softmax'",
    "theta": "[np.ones((4, 3), np.float32), np.zeros(3, np.float32)]",
    "program": "'4 3'",
    "metrics": "{'loss': (np.float32(6), 4), 'accuracy': (weights[0].sum() / 4, np.int64(4))}",
    "tail": "",
}


def write(folder: Path, **change: str) -> Path:
    parts = TASK | change
    path = folder / "task.py"
    path.write_text(
        "import random\n"
        "import numpy as np\n"
        f"runtime = {parts['runtime']}\n"
        "data_contract = {'shape': (4,), 'classes': ['red', 'green', 'blue']}\n"
        "def initial_theta():\n"
        f"    return {parts['theta']}\n"
        "def program():\n"
        f"    return {parts['program']}\n"
        "def evaluate(weights):\n"
        f"    return {parts['metrics']}\n"
        f"{parts['tail']}"
    )
    return path


def load(folder: Path, **change: str) -> PlainTask:
    return PlainTask(write(folder, **change), 7)


def test_weights_contract_and_program_are_the_files(tmp_path: Path) -> None:
    task = load(tmp_path)
    program = task.export("keras", 32)
    assert task.contract.classes == ("red", "green", "blue")
    assert task.theta().tolist() == [1] * 12 + [0] * 3
    assert program.layout == task.layout == Layout(trainable=((4, 3), (3,)))
    assert (program.runtime, program.body) == ("softmax", "4 3")


def test_program_and_evaluation_may_be_missing(tmp_path: Path) -> None:
    task = load(tmp_path, tail="del program, evaluate\n")
    assert task.export("keras", 32).body == ""
    assert task.measure() is None
    assert task.test_examples == 0


@pytest.mark.parametrize("drawn", ["np.random.random(5)", "[random.random() for _ in range(5)]"])
def test_the_seed_decides_what_the_global_generators_draw(tmp_path: Path, drawn: str) -> None:
    path = write(tmp_path, theta=f"[np.array({drawn}, np.float32)]")
    first, again, other = (PlainTask(path, seed).theta() for seed in (7, 7, (1 << 62) + 1))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_the_weights_at_hand_are_measured_each_in_its_shape(tmp_path: Path) -> None:
    task = load(tmp_path)
    assert task.measure() == {"loss": (6, 4), "accuracy": (3, 4)}
    assert task.test_examples == 4
    task.set_theta(np.full(15, 2, np.float32))
    assert task.measure() == {"loss": (6, 4), "accuracy": (6, 4)}


def test_a_metric_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, metrics="{'loss': (np.inf, 4), 'accuracy': (2, 4)}").measure() == {
        "accuracy": (2, 4)
    }


def test_saved_weights_are_read_back_and_by_plain_numpy(tmp_path: Path) -> None:
    task, path = load(tmp_path), tmp_path / "model.npz"
    task.set_theta(np.arange(15, dtype=np.float32))
    task.save(path)
    with np.load(path) as saved:
        assert {name: saved[name].shape for name in saved.files} == {"arr_0": (4, 3), "arr_1": (3,)}
    assert load(tmp_path).read(path).tolist() == list(range(15))
    assert sorted(item.name for item in tmp_path.iterdir() if item.is_file()) == ["model.npz", "task.py"]


def test_other_weights_and_damaged_files_cannot_be_a_beginning(tmp_path: Path) -> None:
    task, path = load(tmp_path), tmp_path / "model.npz"
    np.savez(path, np.ones((3, 4), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ConfigError, match=r"model\.npz: no weights of this task: .*\(3, 4\)"):
        task.read(path)
    path.write_bytes(b"PK no zip")
    with pytest.raises(ConfigError, match=r"model\.npz: no weights of this task"):
        task.read(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"theta": "1 / 0"}, r"^task\.py line 6: ZeroDivisionError"),
        ({"theta": "np.ones(3, np.float32)"}, r"initial_theta\(\) has to return a list"),
        ({"theta": "[]"}, r"initial_theta\(\) has to return a list"),
        ({"theta": "[np.ones(3)]"}, r"initial_theta\(\)\[0\] is float64, only arrays of float32"),
        ({"theta": "[np.ones(3, np.float32), 3.0]"}, r"initial_theta\(\)\[1\] is float, only"),
        ({"theta": "[np.ones((0, 3), np.float32)]"}, "nothing to train"),
        ({"theta": "[np.ones(1, np.float32)] * 5000"}, r"initial_theta\(\), trainable: "),
        ({"tail": "del initial_theta\n"}, r"no function initial_theta\(\)"),
        ({"tail": "del data_contract\n"}, "no dict data_contract"),
        ({"runtime": "3"}, "runtime is 3, not an entry point's name"),
        ({"runtime": "''"}, "the program, runtime: "),
        ({"program": "b'4 3'"}, r"program\(\) gave bytes, not a text"),
        ({"program": "'x' * (9 << 20)"}, "the program, body: .*8388608"),
        ({"metrics": "{'loss': 3.0}"}, r"evaluate\(\) has to return .*, loss: "),
        ({"metrics": "{'loss': (3.0, -1)}"}, r"evaluate\(\) has to return .*, loss\.1: "),
        ({"metrics": "None"}, r"evaluate\(\) has to return .*, as a whole: "),
        ({"metrics": "1 / 0"}, r"^task\.py line 10: ZeroDivisionError"),
    ],
)
def test_what_is_wrong_with_a_task_is_said(tmp_path: Path, change: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        use(load(tmp_path, **change))


def use(task: PlainTask) -> None:
    """What the worker asks of a task when it is built."""
    task.export("keras", 32)
    task.measure()


def test_predictions_beside_the_metrics_are_counted_by_class(tmp_path: Path) -> None:
    task = load(tmp_path, metrics="{'accuracy': (2, 4)}, ([0, 1, 2, 2], np.array([0, 2, 2, 1]))")
    assert task.confusion() is None
    assert task.measure() == {"accuracy": (2, 4)}
    assert task.confusion() == [[1, 0, 0], [0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    "predictions",
    ["None", "([0, 1], [0, 3])", "([0, 1], [0, -1])", "([0], [0, 1])", "([0.5], [0.5])", "([], [])", "'no'"],
    ids=["nothing", "no such class", "below none", "uneven", "no index", "empty", "text"],
)
def test_what_is_no_prediction_is_left_out(tmp_path: Path, predictions: str) -> None:
    task = load(tmp_path, metrics=f"{{'accuracy': (2, 4)}}, {predictions}")
    assert task.measure() == {"accuracy": (2, 4)}
    assert task.confusion() is None


def test_without_classes_predictions_are_left_out(tmp_path: Path) -> None:
    tail = "data_contract = {'shape': [4]}\n"
    task = load(tmp_path, metrics="{'accuracy': (2, 4)}, ([0], [0])", tail=tail)
    assert task.measure() == {"accuracy": (2, 4)}
    assert task.confusion() is None
