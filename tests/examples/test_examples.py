"""Each example from its one command: a real broker, real processes, little data and few rounds."""

import gzip
import json
import signal
import string
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deploy.demo.shares import LACKING
from examples.harness import ROOT, spread, write_reached
from examples.run import main
from host.errors import ConfigError
from tests.deploy.test_deploy_demo import processes_that_name

HERE = Path(__file__).parents[2]
Found = dict[str, Any]


def bright_rows(labels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Images of noise with one bright bar each; how low it lies is the label."""
    images = np.random.default_rng(0).integers(0, 60, (len(labels), size, size)).astype(np.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[label * size // 10 : (label + 1) * size // 10] = 255
    return images


def no_data(_: Path) -> None:
    """Its examples stand in its code."""


def write_idx(folder: Path) -> None:
    """Four files like MNIST's."""
    for part, count in (("train", 600), ("t10k", 100)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = bright_rows(labels, 28)
        for name, array in ((f"{part}-images-idx3", images), (f"{part}-labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes(), 1))


def write_letters(folder: Path) -> None:
    """Two people, five images a letter."""
    labels = np.repeat(np.arange(10, dtype=np.uint8), 5)
    for person in ("anna", "ben"):
        for number, (label, pixels) in enumerate(zip(labels, bright_rows(labels, 40), strict=True)):
            letter = folder / person / string.ascii_lowercase[label]
            letter.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(letter / f"{number}.png")


def digits_are_measured_in_parts(found: Found, _: Path) -> None:
    assert {name: len(points) for name, points in found["curves"].items()} == {
        "all digits": 2,
        **{f"only {', '.join(map(str, digits))}": 2 for digits in LACKING},
    }
    assert found["alone"].keys() == {"a", "b", "c"}
    assert np.sum(found["confusion"]) == 100


def loss_is_known_by_device(found: Found, _: Path) -> None:
    assert len(found["steps"]) == 2
    assert len(found["epochs"]) == 1
    assert {device: len(points) for device, points in found["loss"].items()} == {
        f"pi-{number}": 2 for number in range(10)
    }


def letters_are_held_out_and_one_is_named(found: Found, folder: Path) -> None:
    assert [number for number, _ in found["accuracy"]] == [number for number, _ in found["loss"]] == [1, 2]
    assert np.sum(found["confusion"]) == 20
    assert found["predicted"]["said"] in "abcdefghij"
    models = sorted(path.name for path in folder.glob("aggregator/runs/*/models/*.keras"))
    assert models == ["round-0001.keras", "round-0002.keras"]


def xor_ends_when_it_is_solved(found: Found, _: Path) -> None:
    assert found["accuracy"][-1][1] == 1
    assert all(accuracy < 1 for _, accuracy in found["accuracy"][:-1])
    assert found["updates"] == 2 * len(found["accuracy"])
    assert found["reason"] == f"accuracy >= 1 after {len(found['accuracy'])} rounds"


@dataclass(frozen=True)
class Trial:
    """An example at small size: its data, options, pictures, and what has to be found."""

    write: Callable[[Path], None]
    check: Callable[[Found, Path], None]
    pictures: frozenset[str] = frozenset({"curves.png"})
    options: tuple[str, ...] = ("--rounds", "2")


BOTH = frozenset({"curves.png", "confusion.png"})
EXAMPLES = {
    "digits_missing": Trial(write_idx, digits_are_measured_in_parts, BOTH),
    "mnist_logistic": Trial(write_idx, loss_is_known_by_device),
    "letters": Trial(write_letters, letters_are_held_out_and_one_is_named, BOTH),
    # A seed that takes two rounds.
    "xor_genetic": Trial(no_data, xor_ends_when_it_is_solved, options=("--seed", "3")),
}


def test_every_example_has_its_test() -> None:
    assert {path.parent.name for path in ROOT.glob("*/example.py")} == EXAMPLES.keys()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_one_command_runs_and_leaves_results_pictures_and_no_process(name: str, tmp_path: Path) -> None:
    trial, data, kept = EXAMPLES[name], tmp_path / "data", tmp_path / "kept"
    data.mkdir()
    trial.write(data)
    command = [sys.executable, "-m", "examples.run", name, "--data", str(data), "--keep", str(kept)]
    ended = subprocess.run([*command, *trial.options], cwd=HERE, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (found,) = json.loads((kept / "results.json").read_text())
    trial.check(found, kept / f"seed-{found['seed']}")
    assert {path.name for path in kept.glob("*.png")} == trial.pictures
    assert processes_that_name(str(kept)) == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("letters",), 78, "--data DIR is needed: a folder of letters for each person"),
        (("mnist_logistic", "--data", "{empty}/gone"), 78, "--data DIR is needed: the four IDX files"),
        (("letters", "--data", "{empty}"), 65, "no folder in it"),
        (("nothing",), 2, "is none of"),
    ],
)
def test_what_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    said: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    given = [argument.format(empty=tmp_path / "empty") for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["examples", *given])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_page_begins_with_its_command_and_has_figures_and_pictures(name: str) -> None:
    page = (ROOT / name / "README.md").read_text()
    command = page.splitlines()[2].strip().split()
    assert command[:4] == ["python", "-m", "examples.run", name]
    figures = page.partition("<!-- reached -->")[2].partition("<!-- end -->")[0]
    assert "%" in figures or "updates" in figures
    for picture in EXAMPLES[name].pictures:
        assert f"({picture})" in page
        assert (ROOT / name / picture).is_file()


def test_the_task_measures_what_the_demos_devices_lack() -> None:
    text = (ROOT / "digits_missing" / "task.py").read_text()
    assert f"LACKING = {LACKING}" in text


def test_figures_go_between_the_marks_and_replace_older_ones(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("# x\n<!-- reached -->\n<!-- end -->\nmore\n")
    write_reached(page, r"old \1")
    write_reached(page, r"new \1")
    assert page.read_text() == "# x\n<!-- reached -->\n\nnew \\1\n\n<!-- end -->\nmore\n"
    page.write_text("# x\n")
    with pytest.raises(ConfigError, match="no line <!-- reached -->"):
        write_reached(page, "new")


def test_a_spread_is_told_in_percent() -> None:
    assert spread([0.5]) == "50.00 %"
    assert spread([0.5, 0.6, 0.7]) == "60.00 ± 10.00 % (50.00 to 70.00 %)"
