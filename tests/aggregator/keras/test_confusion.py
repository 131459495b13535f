from pathlib import Path

import numpy as np
import pytest

from aggregator.keras.determinism import be_deterministic
from aggregator.keras.task import KerasTask, load_task
from aggregator.keras.weights import set_theta

be_deterministic()

Rows = list[list[float]]

THREE, TWO = ("ant", "bee", "cat"), ("no", "yes")
SOFTMAX = "keras.layers.Dense(3, activation='softmax')"
# Each example is one-hot: the row of the weights says what the model makes of it.
X, Y = "np.eye(4, dtype='float32')[[0, 0, 1, 2, 3] * 30]", "np.array([0, 1, 1, 2, 2] * 30)"
CROSSENTROPY = "'sparse_categorical_crossentropy'"


def load(
    folder: Path,
    layer: str = SOFTMAX,
    loss: str = CROSSENTROPY,
    classes: tuple[str, ...] = THREE,
    data: str = f"{X}, {Y}",
    tail: str = "",
    metrics: str = "['accuracy']",
) -> KerasTask:
    path = folder / "task.py"
    path.write_text(
        "import keras\nimport numpy as np\n"
        f"data_contract = {{'shape': [4], 'classes': {list(classes)}}}\n"
        "def build_model():\n"
        f"    model = keras.Sequential([keras.Input((4,)), {layer}])\n"
        f"    model.compile('sgd', {loss}, metrics={metrics})\n"
        "    return model\n"
        f"def test_data():\n    return {data}\n{tail}"
    )
    return load_task(path, 7)


def give(task: KerasTask, rows: Rows) -> None:
    """What the model's only layer makes of each of the four inputs."""
    weights = np.array(rows, np.float32)
    set_theta(task.model, np.concatenate([weights.ravel(), np.zeros(weights.shape[1], np.float32)]))


# Inputs 0 and 1 are taken for ant, 2 for bee, 3 for cat.
ROWS: Rows = [[9.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]
SEEN = [[30, 0, 0], [60, 0, 0], [0, 30, 30]]


def test_what_the_model_takes_for_what_is_counted_while_it_is_measured(tmp_path: Path) -> None:
    task = load(tmp_path)
    give(task, ROWS)
    measured = task.measure()
    assert task.confusion() == SEEN
    assert measured is not None
    assert measured["accuracy"] == pytest.approx((60.0, 150.0))


def test_each_measurement_counts_anew(tmp_path: Path) -> None:
    task = load(tmp_path)
    give(task, ROWS)
    task.measure()
    give(task, [[0.0, 0.0, 9.0]] * 4)
    task.measure()
    assert task.confusion() == [[0, 0, 30], [0, 0, 60], [0, 0, 60]]


def test_a_model_is_called_once_for_each_batch_with_and_without_counting(tmp_path: Path) -> None:
    calls = "calls = keras.Variable(0, dtype='int32', trainable=False)\n"
    layer = (
        "class Counted(keras.layers.Layer):\n"
        "    def call(self, x):\n        calls.assign_add(1)\n        return x\n"
    )
    task = load(tmp_path, layer=f"Counted(), {SOFTMAX}", tail=calls + layer)
    from midge_task import calls as counted  # type: ignore[import-not-found]  # noqa: PLC0415  the task file

    counted.assign(0)
    task.measure()
    assert task.confusion() is not None
    assert int(counted) == 3, "150 examples in batches of 64"


def test_logits_are_as_good_as_probabilities(tmp_path: Path) -> None:
    loss = "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
    task = load(tmp_path, "keras.layers.Dense(3)", loss)
    give(task, [[-5.0, -9, -9], [-5, -9, -9], [-9, -5, -9], [-9, -9, -5]])
    task.measure()
    assert task.confusion() == SEEN


@pytest.mark.parametrize(
    ("layer", "loss"),
    [
        ("keras.layers.Dense(1, activation='sigmoid')", "'binary_crossentropy'"),
        ("keras.layers.Dense(1)", "keras.losses.BinaryCrossentropy(from_logits=True)"),
    ],
    ids=["probability", "logit"],
)
def test_one_output_tells_two_classes_apart(tmp_path: Path, layer: str, loss: str) -> None:
    task = load(tmp_path, layer, loss, TWO, f"{X}, np.array([0, 1, 1, 0, 0] * 30)")
    give(task, [[-0.3], [0.3], [0.3], [-0.3]])
    task.measure()
    assert task.confusion() == [[60, 30], [30, 30]]


def test_only_the_whole_of_the_held_out_data_is_counted(tmp_path: Path) -> None:
    task = load(
        tmp_path, data=f"{{'all': ({X}, {Y}), 'few': (np.eye(4, dtype='float32')[:2], np.array([0, 1]))}}"
    )
    give(task, ROWS)
    measured = task.measure()
    assert measured is not None
    assert "accuracy on few" in measured
    assert task.confusion() == SEEN


def test_a_class_that_the_model_does_not_know_leaves_the_metrics_as_they_are(tmp_path: Path) -> None:
    """Four outputs for three classes: which of them is which, nobody says."""
    task = load(tmp_path, "keras.layers.Dense(4, activation='softmax')")
    measured = task.measure()
    assert measured is not None
    assert measured.keys() == {"loss", "accuracy"}
    assert task.confusion() is None


def test_too_many_classes_are_not_counted(tmp_path: Path) -> None:
    names = tuple(f"c{number}" for number in range(101))
    task = load(tmp_path, "keras.layers.Dense(101, activation='softmax')", classes=names)
    assert task.measure() is not None
    assert task.confusion() is None


def test_a_model_whose_test_step_goes_its_own_way_is_left_alone(tmp_path: Path) -> None:
    own = (
        "class Own(keras.Sequential):\n"
        "    def test_step(self, data):\n"
        "        return {'mean': keras.ops.mean(self(data[0], training=False))}\n"
        "def build_model():\n"
        "    model = Own([keras.Input((4,)), keras.layers.Dense(3, activation='softmax')])\n"
        "    model.compile('sgd', 'sparse_categorical_crossentropy')\n"
        "    return model\n"
    )
    task = load(tmp_path, tail=own)
    assert task.measure() is not None
    assert task.confusion() is None
