from pathlib import Path

import numpy as np
import pytest

from aggregator.keras.determinism import be_deterministic
from aggregator.keras.task import KerasTask, load_task
from aggregator.keras.weights import layout_of, set_theta, theta_of
from broker.names import is_of_whole
from broker.program import KerasBody
from host.errors import ConfigError

be_deterministic()

# A task file that works; each test replaces one piece of it.
TASK = {
    "head": "import numpy as np\nimport keras\n",
    "contract": "data_contract = {'shape': [4], 'classes': ['a', 'b', 'c']}\n",
    "layers": "keras.layers.Dense(8, activation='relu'), keras.layers.Dense(3, activation='softmax')",
    "loss": "'sparse_categorical_crossentropy'",
    "data": "np.ones((5, 4)), np.array([0, 1, 2, 1, 0])",
    "tail": "",
}


def write(folder: Path, **change: str) -> Path:
    parts = TASK | change
    path = folder / "task.py"
    path.write_text(
        f"{parts['head']}{parts['contract']}"
        "def build_model():\n"
        f"    model = keras.Sequential([keras.Input((4,)), {parts['layers']}])\n"
        f"    model.compile('adam', {parts['loss']}, metrics=['accuracy'])\n"
        "    return model\n"
        "def test_data():\n"
        f"    return {parts['data']}\n"
        f"{parts['tail']}"
    )
    return path


def load(folder: Path, **change: str) -> KerasTask:
    return load_task(write(folder, **change), 7)


def test_a_task_gives_model_contract_and_data_in_the_contracts_types(tmp_path: Path) -> None:
    task = load(tmp_path)
    assert task.contract.classes == ("a", "b", "c")
    assert task.test_data is not None
    assert [part.dtype for part in task.test_data] == [np.float32, np.int32]


def test_parts_of_the_held_out_data_are_measured_besides_under_names_of_their_own(tmp_path: Path) -> None:
    sets = "{'all': (np.eye(4), np.array([0, 1, 2, 0])), 'the first': (np.eye(4)[:1], np.array([0]))}"
    task = load(tmp_path, layers="keras.layers.Dense(3, activation='softmax')", data=sets)
    # Every input leads to the first class.
    weights = np.zeros((4, 3), np.float32)
    weights[:, 0] = 50
    set_theta(task.model, np.concatenate([weights.ravel(), np.zeros(3, np.float32)]))
    assert task.test_examples == 4
    measured = task.measure()
    assert measured is not None
    assert {name for name in measured if is_of_whole(name)} == {"accuracy", "loss"}
    assert measured["accuracy"] == (2.0, 4.0)
    assert measured["accuracy on the first"] == (1.0, 1.0)
    assert measured["loss on the first"][0] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("sets", "complaint"),
    [
        ("{}", "a tuple"),
        ("{'all': (X, Y), 'odd': (X[:2], Y)}", "2 inputs and 5 labels"),
        (f"{{'all': (X, Y), '{'x' * 60}': (X, Y)}}", "the metrics on all parts"),
        ("{str(n): (X, Y) for n in range(40)}", "the metrics on all parts.*at most 64"),
    ],
)
def test_parts_that_cannot_be_measured_are_refused(tmp_path: Path, sets: str, complaint: str) -> None:
    head = TASK["head"] + "X, Y = np.ones((5, 4)), np.array([0, 1, 2, 1, 0])\n"
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, head=head, data=sets)


def test_the_seed_decides_the_first_weights(tmp_path: Path) -> None:
    first, again, other = (theta_of(load_task(write(tmp_path), seed).model) for seed in (7, 7, 8))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_a_task_without_held_out_data_and_a_module_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_the_task.py").write_text("UNITS = 3\n")
    task = load(tmp_path, head=TASK["head"] + "from beside_the_task import UNITS\n", tail="del test_data\n")
    assert task.test_data is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"head": "import keras, no_such_thing\n"}, r"^task\.py line 1: ModuleNotFoundError"),
        ({"head": "import keras\nx = = 1\n"}, r"^task\.py line 2: SyntaxError"),
        ({"head": "import sys\nsys.exit('enough')\n"}, r"^task\.py line 2: SystemExit: enough"),
        ({"layers": "keras.layers.Dense(-1)"}, r"^task\.py line 5: ValueError: "),
        ({"data": "1 / 0"}, r"^task\.py line 9: ZeroDivisionError"),
        ({"contract": ""}, "no dict data_contract"),
        ({"contract": "data_contract = {'shape': []}\n"}, "data_contract, shape: "),
        ({"contract": "data_contract = {'shape': [5], 'classes': ['a', 'b', 'c']}\n"}, r"takes \(None, 4\)"),
        (
            {"contract": "data_contract = {'shape': [4], 'classes': ['a', 'b', 'c', 'd']}\n"},
            "cannot be used on",
        ),
        ({"loss": "'categorical_crossentropy'"}, "cannot be used on data_contract's examples"),
        ({"loss": "None"}, "not compiled with a loss"),
        ({"tail": "build_model = None\n"}, r"no function build_model\(\)"),
        ({"tail": "build_model = lambda: 3\n"}, "gave int, not a Keras model"),
        (
            {"tail": "build_model = lambda: keras.Sequential([keras.layers.Dense(1)])\n"},
            "begin it with keras.Input",
        ),
        ({"data": "1"}, r"return a tuple \(x, y\)"),
        ({"data": "np.ones((5, 4)), np.zeros(4, int)"}, "5 inputs and 4 labels"),
        ({"data": "np.ones((5, 3)), np.zeros(5, int)"}, r"gave shapes \(3,\) and \(\)"),
        ({"data": "np.ones((5, 4), complex), np.zeros(5, int)"}, "complex128 inputs"),
        ({"data": "np.ones((5, 4)), np.full(5, 3)"}, "no indexes of data_contract's classes"),
    ],
)
def test_what_is_wrong_with_a_task_is_said_with_its_line(
    tmp_path: Path, change: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, **change)


def test_a_missing_task_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no_task\.py: no Python file"):
        load_task(tmp_path / "no_task.py", 0)


def test_a_program_describes_the_model_without_weights_or_code(tmp_path: Path) -> None:
    task = load(tmp_path)
    program = task.export("keras", 32)
    assert program.layout == layout_of(task.model)
    body = KerasBody.from_json(program.body)
    assert "compile_config" not in body.model
    assert body.compile["loss"] == "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"layers": "keras.layers.Dense(3), keras.layers.Lambda(lambda x: x)"}, "Lambda is code"),
        (
            {
                "head": TASK["head"] + "def own(y, p):\n    return keras.ops.mean(p, -1)\n",
                "loss": "own",
            },
            "cannot be built again.*own",
        ),
        (
            {
                "head": TASK["head"]
                + "@keras.saving.register_keras_serializable()\nclass Own(keras.layers.Dense):\n    pass\n",
                "layers": "Own(3)",
            },
            "Custom>Own is not part of Keras",
        ),
        ({"layers": "keras.layers.Dense(3, dtype='float16')"}, "float16, only float32 travels"),
    ],
)
def test_a_model_that_cannot_travel_is_refused_when_it_is_exported(
    tmp_path: Path, change: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(tmp_path, **change).export("keras", 32)


def test_a_loss_that_keras_describes_only_in_part_is_refused(tmp_path: Path) -> None:
    regression = {
        "contract": "data_contract = {'shape': [4]}\n",
        "layers": "keras.layers.Dense(1)",
        "data": "np.ones((5, 4)), np.zeros(5)",
    }
    load(tmp_path, loss="keras.losses.Huber()", **regression).export("keras", 32)
    with pytest.raises(ConfigError, match="another loss"):
        load(tmp_path, loss="keras.losses.Huber(delta=0.5)", **regression).export("keras", 32)


def test_theta_goes_out_and_in_in_the_layouts_order(tmp_path: Path) -> None:
    model = load(tmp_path, layers="keras.layers.BatchNormalization(), keras.layers.Dense(3)").model
    layout = layout_of(model)
    assert layout.trainable == ((4,), (4,), (4, 3), (3,))
    assert layout.state == ((4,), (4,))
    theta = np.arange(layout.size, dtype=np.float32)
    set_theta(model, theta)
    assert theta_of(model).tobytes() == theta.tobytes()
    with pytest.raises(ValueError, match="theta has shape"):
        set_theta(model, theta[1:])


def test_normalization_is_measured_with_the_statistics_that_were_put_in(tmp_path: Path) -> None:
    model = load(tmp_path, layers="keras.layers.Normalization(), keras.layers.Dense(3)").model
    theta = np.zeros(layout_of(model).size, np.float32)
    theta[:12] = np.eye(4, 3).ravel()
    x = np.array([[1, 2, 3, 4]], np.float32)
    for mean, variance in ((0, 1), (1, 4)):
        theta[15:19], theta[19:] = mean, variance
        set_theta(model, theta)
        expected = (x[:, :3] - mean) / np.sqrt(variance)
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)
