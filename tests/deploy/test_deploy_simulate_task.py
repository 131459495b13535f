import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.command.app import run
from tests.system.lab import PLUGINS, write_examples

TASK = Path(__file__).parents[1] / "system/softmax_task.py"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data and two settings files, where we are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(PLUGINS))
    write_examples(tmp_path / "blobs.npz", 120, seed=1)
    (tmp_path / "plain.toml").write_text("rounds = 2\nbatch_size = 16\n")
    (tmp_path / "long.toml").write_text("rounds = 2\nbatch_size = 16\nepochs = 4\n")
    return tmp_path


def simulate(monkeypatch: pytest.MonkeyPatch, *arguments: str, task: Path | None = TASK) -> int:
    chosen = ["--task", str(task), "--data", "blobs.npz"] if task else []
    monkeypatch.setattr(sys, "argv", ["midge", "simulate", *chosen, *arguments])
    try:
        run()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def found_by(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:  # noqa: ANN401 - a test reads what it needs
    assert simulate(monkeypatch, "--json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("bench")
def test_settings_are_compared_on_the_same_devices_whatever_the_number_of_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--devices", "4", "--partition", "dirichlet:0.5", "--seeds", "2", "--dropout", "0.2"]
    asked += ["--seed", "5", "--compare", "plain.toml", "long.toml"]
    one, two = (found_by(monkeypatch, capsys, *asked, "--processes", count) for count in ("1", "2"))
    assert one == two
    assert [(ran["settings"], ran["seed"]) for ran in one["runs"]] == [
        ("plain", 5),
        ("long", 5),
        ("plain", 6),
        ("long", 6),
    ]
    assert len({ran["theta"] for ran in one["runs"]}) == 4
    assert sorted(one["shares"]) == ["5", "6"]
    assert one["shares"]["5"] != one["shares"]["6"]
    assert [share["examples"] for share in one["shares"]["5"].values()] == [30] * 4
    assert one["settings"]["long"]["epochs"] == 4


def test_a_table_a_csv_file_and_a_picture_say_how_they_compare(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--csv", "rounds.csv", "--plot", "curves.png"]
    asked = [
        "--devices",
        "3",
        "--compare",
        "plain.toml",
        "--compare",
        "long.toml",
        "--reach",
        "accuracy >= 0.65",
    ]
    assert simulate(monkeypatch, *asked, *files, "--seeds", "2") == 0
    table = capsys.readouterr().out
    assert "3 devices with 40 examples of 3 classes" in table
    plain, long = (
        next(line for line in table.splitlines() if f" {name} " in line) for name in ("plain", "long")
    )
    assert "(2 of 2 never)" in plain
    assert "never" not in long
    assert "±" in long
    assert (bench / "curves.png").read_bytes().startswith(b"\x89PNG")
    with (bench / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["settings"], row["seed"], row["round"]) for row in rows][:3] == [
        ("plain", "0", "1"),
        ("plain", "0", "2"),
        ("long", "0", "1"),
    ]
    assert {row["outcome"] for row in rows} == {"completed"}
    assert float(rows[-1]["accuracy"]) > 0.6
    assert float(rows[-1]["federated accuracy"]) > 0.5


def test_the_command_line_stands_above_the_files_and_a_column_says_how_many_devices_there_are(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(bench / "blobs.npz") as file:
        np.savez(bench / "blobs.npz", x=file["x"], y=file["y"], person=np.arange(120) % 5)
    asked = ["--partition", "column:person", "--compare", "long.toml", "--rounds", "1"]
    found = found_by(monkeypatch, capsys, *asked, "--set", "fraction=0.4")
    assert len(found["shares"]["0"]) == 5
    (ran,) = found["runs"]
    assert [(entry["participants"], entry["accepted"]) for entry in ran["history"]] == [(2, 2)]
    assert found["dropout"] == 0


def test_without_settings_files_there_is_one_row_by_the_name_of_the_task(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--devices", "2", "--set", "rounds=3", "--set", "stop_when=accuracy >= 0.01"]
    found = found_by(monkeypatch, capsys, *asked)
    assert bench
    (ran,) = found["runs"]
    assert ran["settings"] == TASK.stem
    assert (len(ran["history"]), ran["rounds_to_reach"], found["reach"]) == (1, 1, "accuracy >= 0.01")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--sites", "3"], "--sites: not with --task", id="an option of the fleet"),
        pytest.param(["--partition", "dirichlet"], "--partition dirichlet: write", id="no number"),
        pytest.param(["--reach", "good"], "--reach good: metric", id="no rule"),
        pytest.param(["--compare", "absent.toml"], "absent.toml: cannot be read", id="no file"),
        pytest.param(["--compare", "plain.toml", "plain.toml"], "give these different names", id="one name"),
        pytest.param(["--set", "epoch=3"], "did you mean epochs?", id="no setting"),
        pytest.param(["--csv", "absent/rounds.csv"], "absent/rounds.csv: cannot be written", id="no folder"),
        pytest.param(["--target-column", "kind"], "no CSV file", id="no table"),
    ],
)
@pytest.mark.usefixtures("bench")
def test_what_makes_no_sense_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert simulate(monkeypatch, *arguments) == 78
    assert told in capsys.readouterr().err


def test_a_misspelled_setting_is_told_with_its_file(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (bench / "plain.toml").write_text("epoch = 3\n")
    assert simulate(monkeypatch, "--compare", "plain.toml") == 78
    assert "plain.toml: epoch: is not a setting; did you mean epochs?" in capsys.readouterr().err


def test_what_trains_needs_a_task_and_its_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(monkeypatch, "--partition", "iid", "--seeds", "2", task=None) == 78
    assert "--partition, --seeds: only with --task" in capsys.readouterr().err
    assert simulate(monkeypatch, "fedavg.toml", task=None) == 78
    assert "FILE: only with --task" in capsys.readouterr().err
    assert simulate(monkeypatch, "--task", str(TASK), task=None) == 78
    assert "--data: which examples" in capsys.readouterr().err
