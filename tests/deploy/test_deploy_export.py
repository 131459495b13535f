"""`midge export`, from a task file to files that train and infer."""

import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

from broker.litert import LiteRTBody
from broker.program import Program
from edge_agent.main import main as midge_agent
from tests.deploy.test_deploy_command import midge

TASK = """
import keras

data_contract = {"shape": [6], "classes": ["low", "high"]}

def build_model():
    model = keras.Sequential([
        keras.Input((6,)), keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dense(2, activation="softmax"),
    ])
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

def test_data():
    raise FileNotFoundError("held-out data are not needed here")
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    path = tmp_path / "task.py"
    path.write_text(TASK)
    return path


def write_data(path: Path) -> Path:
    x = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    np.savez(path, x=x, y=(x[:, 0] > 0).astype(np.int32))
    return path


def test_what_is_exported_trains_without_a_broker_and_infers(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], task: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "theta.f32").write_text("of an earlier export")
    assert midge(monkeypatch, "export", str(task), "-o", str(out), "--batch", "8", "--force") == 0
    said, noise = capfd.readouterr()
    assert noise == ""
    sizes = {path.name: path.stat().st_size for path in out.iterdir()}
    assert sizes.keys() == {"program.json", "theta.f32", "model.tflite", "labels.txt"}
    for name, size in sizes.items():
        assert re.search(rf"^{name} +{size:,} ", said, re.MULTILINE)
    assert (out / "labels.txt").read_text() == "low\nhigh\n"
    assert "parameters  26 trained, 12 other" in said
    assert re.search(r"to infer +\d+ operators: .*FULLY_CONNECTED 1", said)
    assert re.search(
        rf"to train +[\d,]+ bytes of LiteRT, which travel as {sizes['program.json']:,}; \d+ operators: ", said
    )

    body = LiteRTBody.from_json(Program.from_bytes((out / "program.json").read_bytes()).body)
    assert body.batch == 8
    (infer,) = Interpreter(str(out / "model.tflite")).get_signature_list().values()
    assert infer == {"inputs": ["x"], "outputs": ["output"]}

    command = said.splitlines()[-1].replace("DATA", str(write_data(tmp_path / "data.npz"))).split()
    assert midge_agent([*command[1:], "--steps", "60"]) == 0
    after = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("after"))
    assert float(after.rpartition(" ")[2]) > 0.8


def test_by_name_the_settings_of_the_task_s_runs_hold_and_options_come_first(
    monkeypatch: pytest.MonkeyPatch, task: Path, tmp_path: Path
) -> None:
    config = tmp_path / "aggregator.toml"
    config.write_text(
        f'folder = "{tmp_path}"\n[broker]\nurl = "mqtt://localhost"\n[tasks.levels]\nfile = "{task}"\n'
        "settings = { batch_size = 5, seed = 7 }\n"
    )
    asked: list[dict[str, object]] = []

    def note(_module: str, request: dict[str, object], _timeout_s: float) -> dict[str, object]:
        asked.append(request)
        return {"event": "failed", "detail": "enough"}

    monkeypatch.setattr("deploy.command.export.ask_once", note)
    arguments = ("export", "levels", "-o", str(tmp_path / "out"), "--config", str(config))
    assert midge(monkeypatch, *arguments) == 78
    assert midge(monkeypatch, *arguments, "--batch", "6", "--seed", "0") == 78
    assert [(r["task"], r["batch_size"], r["seed"]) for r in asked] == [(str(task), 5, 7), (str(task), 6, 0)]


def test_an_unknown_name_is_refused_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "aggregator.toml"
    config.write_text('folder = "."\n[broker]\nurl = "mqtt://localhost"\n[tasks.levels]\nfile = "a.py"\n')
    assert midge(monkeypatch, "export", "level", "-o", str(tmp_path / "out"), "--config", str(config)) == 78
    assert "no task 'level'; it has levels" in capsys.readouterr().err


def test_a_folder_with_something_in_it_is_written_to_by_force_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: Path
) -> None:
    assert midge(monkeypatch, "export", str(task), "-o", str(task.parent)) == 78
    assert "not empty" in capsys.readouterr().err
    assert midge(monkeypatch, "export", str(task), "-o", str(task), "--force") == 78
    assert "is a file" in capsys.readouterr().err
    assert list(task.parent.iterdir()) == [task]


def test_a_layer_that_does_not_convert_is_named_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], task: Path
) -> None:
    half = "keras.layers.Dense(6, dtype='float16', name='half')"
    task.write_text(TASK.replace('keras.layers.BatchNormalization(name="norm")', half))
    out = task.parent / "out"
    assert midge(monkeypatch, "export", str(task), "-o", str(out)) == 78
    error = capfd.readouterr().err
    assert error.startswith("midge: ")
    assert "half/kernel is float16" in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_task_without_keras_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: Path
) -> None:
    task.write_text('runtime = "own"\n')
    assert midge(monkeypatch, "export", str(task), "-o", str(task.parent / "out")) == 78
    assert "task.py: has no Keras model" in capsys.readouterr().err


def test_without_tensorflow_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: Path
) -> None:
    monkeypatch.setattr("deploy.command.export.importlib.util.find_spec", lambda _: None)
    assert midge(monkeypatch, "export", str(task), "-o", str(task.parent / "out")) == 78
    assert "pip install 'midge[aggregator]'" in capsys.readouterr().err
