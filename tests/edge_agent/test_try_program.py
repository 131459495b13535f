import gzip
import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aggregator.keras.determinism import be_deterministic, keras
from aggregator.keras.litert.export import export_litert
from aggregator.keras.weights import layout_of, theta_of
from broker.layout import Layout
from broker.program import Program
from edge_agent.data.kind import source_of
from edge_agent.main import main
from edge_agent.try_program import Trial, random_theta, try_program
from host.errors import ConfigError, DataError
from host.exits import ExitCode

COUNT = 60
Lay = Callable[[Path], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a classifier of 4x4 images and of a regression on four numbers."""
    be_deterministic()
    keras.utils.set_random_seed(1)
    folder = tmp_path_factory.mktemp("programs")
    head = [
        keras.layers.Rescaling(1 / 16),
        keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    ]
    save(folder / "classifier", (4, 4, 1), head, "sparse_categorical_crossentropy")
    save(folder / "regression", (4,), [keras.layers.Dense(1)], "mse")
    return folder


def save(path: Path, shape: tuple[int, ...], layers: list[object], loss: str) -> None:
    model = keras.Sequential([keras.Input(shape), *layers])
    metrics = [] if loss == "mse" else ["accuracy"]
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=metrics)
    body = export_litert(model, batch=8).to_json()
    path.write_bytes(Program(layout=layout_of(model), runtime="litert", body=body).to_bytes())
    path.with_suffix(".theta").write_bytes(theta_of(model).tobytes())


def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Dark, middling and bright."""
    y = np.arange(COUNT) % 3
    noise = np.random.default_rng(0).integers(0, 10, (COUNT, 4, 4))
    return (y[:, None, None] * 7 + noise).astype(np.uint8), y.astype(np.uint8)


def npz(folder: Path) -> Path:
    x, y = pixels()
    np.savez(folder / "data.npz", x=x, y=y)
    return folder / "data.npz"


def idx(folder: Path) -> Path:
    for name, array in zip(("images-idx3", "labels-idx1"), pixels(), strict=True):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder


def images(folder: Path) -> Path:
    for i, (image, label) in enumerate(zip(*pixels(), strict=True)):
        place = folder / ("dark", "grey", "white")[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    return folder


def table(folder: Path) -> Path:
    x, y = pixels()
    rows = [",".join(map(str, [*image.ravel(), "abc"[label]])) for image, label in zip(x, y, strict=True)]
    (folder / "data.csv").write_text("\n".join([",".join(map(str, range(17))), *rows]))
    return folder / "data.csv"


def told(trial: Trial) -> dict[str, str]:
    out = io.StringIO()
    assert try_program(trial, out) is ExitCode.OK
    return {line[:8].strip(): line[8:].strip() for line in out.getvalue().splitlines()}


def accuracy(line: str) -> float:
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize("lay", [npz, idx, images, table])
def test_a_program_is_trained_on_any_kind_of_data(folder: Path, tmp_path: Path, lay: Lay) -> None:
    lines = told(Trial(folder / "classifier", lay(tmp_path), steps=100))
    assert list(lines) == ["program", "data", "before", "after", "speed", "memory"]
    assert lines["program"] == "51 weights, batches of 8"
    assert accuracy(lines["after"]) > max(0.6, accuracy(lines["before"]))
    assert float(lines["speed"].split()[0]) > 0
    assert float(lines["memory"].split()[0]) > 10


def test_an_epoch_is_trained_from_the_given_weights(folder: Path, tmp_path: Path) -> None:
    trial = Trial(folder / "classifier", npz(tmp_path), folder / "classifier.theta")
    lines = told(trial)
    assert lines["before"] != told(Trial(trial.program, trial.data))["before"]
    assert lines["after"] != told(Trial(trial.program, trial.data, trial.theta, steps=1))["after"]


def test_a_regression_is_told_by_its_loss(folder: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(COUNT, 4))
    rows = ["a,b,sum,c,d", *(f"{a},{b},{a + b + c + d},{c},{d}" for a, b, c, d in x)]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    lines = told(Trial(folder / "regression", tmp_path / "data.csv", steps=200, target="sum"))
    assert lines["before"].startswith("loss ")
    assert float(lines["after"].split()[1]) < 0.01


def test_what_cannot_be_tried_is_refused_clearly(folder: Path, tmp_path: Path) -> None:
    program, data = folder / "classifier", npz(tmp_path)
    with pytest.raises(DataError, match="none: cannot be read: No such file"):
        told(Trial(tmp_path / "none", data))
    with pytest.raises(DataError, match="none: there is nothing"):
        told(Trial(program, tmp_path / "none"))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"notes\.txt: is no \.npz"):
        told(Trial(program, tmp_path / "notes.txt"))
    with pytest.raises(DataError, match="51 weights of 4 bytes"):
        told(Trial(program, data, folder / "regression.theta"))
    with pytest.raises(DataError, match=r"data\.npz: is not the program\.json of `midge export`"):
        told(Trial(data, data))
    other = Program(layout=Layout(trainable=((1,),)), runtime="keras", body="")
    (tmp_path / "other").write_bytes(other.to_bytes())
    with pytest.raises(ConfigError, match="is for runtime 'keras'"):
        told(Trial(tmp_path / "other", data))
    np.savez(tmp_path / "floats.npz", x=np.zeros((9, 16)), y=np.linspace(0, 1, 9))
    with pytest.raises(DataError, match="the program takes labels"):
        told(Trial(program, tmp_path / "floats.npz"))


@pytest.mark.parametrize(
    ("label", "message"), [("5000", "has a label 5000"), ("", "cannot be a class's name")]
)
def test_labels_that_cannot_be_classes_are_refused(
    folder: Path, tmp_path: Path, label: str, message: str
) -> None:
    (tmp_path / "data.csv").write_text(f"a,b,c,d,y\n1,2,3,4,{label}\n")
    with pytest.raises(DataError, match=message):
        told(Trial(folder / "classifier", tmp_path / "data.csv"))


def test_the_command_tries_a_program(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["try", str(folder / "classifier"), str(npz(tmp_path)), "--steps"]
    assert main([*arguments, "3"]) == ExitCode.OK
    assert "after    loss" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main([*arguments, "0"])
    assert left.value.code == ExitCode.USAGE
    assert "must be 1 to" in capsys.readouterr().err
    assert main(["try", str(folder / "none"), str(tmp_path)]) == ExitCode.BAD_CONFIG
    assert "none: cannot be read" in capsys.readouterr().err


def test_colour_images_are_read_in_colour(tmp_path: Path) -> None:
    assert getattr(source_of(tmp_path, colour=True), "mode", None) == "RGB"


def test_random_weights_are_the_same_every_time_and_of_the_size_of_their_fans() -> None:
    layout = Layout(trainable=((3, 3, 2, 8), (8,)), state=((8,),))
    theta = random_theta(layout)
    assert theta.tobytes() == random_theta(layout).tobytes()
    limit = np.sqrt(6 / (9 * 2 + 9 * 8))
    assert 0.9 * limit < np.abs(theta[:144]).max() <= limit
    assert theta[144:].tolist() == pytest.approx([0.1] * 8 + [1] * 8)


def test_trying_loads_no_tensorflow() -> None:
    program = "import sys, edge_agent.try_program\nprint({'tensorflow', 'keras', 'paho'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
