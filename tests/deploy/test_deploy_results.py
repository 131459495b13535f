import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
# The brighter half decides, and the outputs are logits.
MODEL = """
import sys, keras, numpy as np
model = keras.Sequential([keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.Dense(2)])
kernel = np.zeros((16, 2), "float32")
kernel[:8, 0] = kernel[8:, 1] = 0.01
model.layers[-1].set_weights([kernel, np.zeros(2, "float32")])
model.save(sys.argv[1])
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of 4 x 4 pixels into `above` and `below`, with its run's manifest beside it."""
    path = tmp_path_factory.mktemp("run") / "model.keras"
    subprocess.run([sys.executable, "-c", MODEL, str(path)], check=True, capture_output=True)
    path.with_name("run.toml").write_text('run = "x"\n[contract]\nclasses = ["above", "below"]\n')
    return path


def midge(*arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = [sys.executable, "-m", "deploy.command.entry", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def halves(upper: int, lower: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.repeat(np.array([[upper], [upper], [lower], [lower]], np.uint8), 4, axis=1)


def test_predict_names_the_class_and_its_probability(model: Path, tmp_path: Path) -> None:
    Image.fromarray(halves(0, 255)).resize((20, 20), Image.Resampling.NEAREST).save(tmp_path / "x.png")
    ended = midge("predict", str(model), str(tmp_path / "x.png"))
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[0] == "below"
    assert ended.stdout.splitlines()[1].split() == ["100.00%", "below"]


def test_predict_can_invert_the_image(model: Path, tmp_path: Path) -> None:
    Image.fromarray(halves(0, 255)).save(tmp_path / "x.png")
    ended = midge("predict", str(model), str(tmp_path / "x.png"), "--invert", "--json")
    found = json.loads(ended.stdout)
    assert found["class"] == "above"
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_confusion_of_a_folder_of_images_is_counted_and_drawn(model: Path, tmp_path: Path) -> None:
    for name, upper, lower in (("above", 200, 0), ("above", 0, 200), ("below", 0, 90)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(halves(upper, lower)).save(folder / f"{upper}-{lower}.png")
    picture = tmp_path / "confusion.png"
    ended = midge("confusion", str(model), str(tmp_path / "images"), "--json", "-o", str(picture))
    found = json.loads(ended.stdout)
    assert found["classes"] == ["above", "below"]
    assert found["matrix"] == [[1, 1], [0, 1]]
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["accuracy_by_class"] == {"above": 0.5, "below": 1.0}
    with Image.open(picture) as image:
        assert image.format == "PNG"


def test_confusion_of_arrays_is_shown_as_a_table(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.stack([halves(9, 0), halves(0, 9)]), y=np.array([0, 1]))
    ended = midge("confusion", str(model), str(tmp_path / "x.npz"))
    assert ended.stderr == ""
    assert "above" in ended.stdout
    assert "100.00% of 2 right" in ended.stdout


def test_a_file_that_is_no_model_is_exit_65(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("no zip")
    ended = midge("predict", str(tmp_path / "model.keras"), "x.png")
    assert ended.returncode == 65
    assert ended.stderr.startswith(f"midge: {tmp_path}/model.keras: no Keras model that can be read")
    assert ended.stderr.count("\n") == 1


def test_a_model_that_is_not_there_is_exit_65(tmp_path: Path) -> None:
    ended = midge("predict", str(tmp_path / "model.keras"), "x.png")
    assert (ended.returncode, ended.stdout) == (65, "")
    assert "no such file" in ended.stderr


def test_data_that_does_not_fit_the_model_is_exit_65(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 5, 5)), y=np.array([0, 1]))
    ended = midge("confusion", str(model), str(tmp_path / "x.npz"))
    assert ended.returncode == 65
    assert "(5, 5)" in ended.stderr
