import contextlib
import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.command.app import app
from host.errors import ConfigError
from tests.deploy.report.history import Writer, devices_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: twelve rounds, four with other settings, and one without any."""
    folder = tmp_path_factory.mktemp("aggregator")
    now = Writer.now
    for run, rounds, settings in (("digits-1", 12, {"epochs": 3}), ("digits-2", 4, {"proximal": 0.1})):
        writer = Writer(folder, run, settings={"rounds": rounds, **settings}, now=now)
        writer.begin()
        for number in range(1, rounds + 1):
            writer.train(number, devices_of(8))
        writer.end()
        writer.files([*"ab"])
        writer.shut()
        now = writer.now
    empty = Writer(folder, "digits-3", now=now)
    empty.begin()
    empty.end("stopped")
    empty.shut()
    return folder


def compare(folder: Path, *arguments: str) -> str:
    """What the verb prints; raises its errors."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        app(["compare", *arguments, "--folder", str(folder)], standalone_mode=False)
    return printed.getvalue()


def compared(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(compare(folder, *arguments, "--json"))["runs"]
    return found


def test_only_settings_that_differ_are_told(folder: Path) -> None:
    found = json.loads(compare(folder, "digits-1", "digits-2", "--json"))
    assert found["differences"] == {"rounds": [12, 4], "epochs": [3, None], "proximal": [0.0, 0.1]}


def test_a_goal_tells_what_it_took_and_who_never_got_there(folder: Path) -> None:
    names = ("digits-1", "digits-2", "digits-3")
    first, second, empty = compared(folder, *names, "--reach", "accuracy=0.8")
    number = first["reached"]["round"]
    assert number == next(n for n in range(1, 13) if 1 - 0.85 * math.exp(-n / 6) >= 0.8)
    assert first["reached"]["seconds"] == pytest.approx(4.0 + 9.5 * number)
    assert first["reached"]["bytes_down"] == 8 * 42_000 * number
    assert second["reached"] is None
    assert (empty["final"], empty["best"], empty["reached"]) == ({}, {}, None)


def test_a_loss_is_reached_from_above(folder: Path) -> None:
    first, _ = compared(folder, "digits-1", "digits-2", "--reach", "loss=1")
    assert first["reached"]["round"] == 4
    assert first["best"]["loss"] == {"round": 12, "value": first["final"]["loss"]}


def test_curves_and_lines_are_written(folder: Path, tmp_path: Path) -> None:
    picture, lines = tmp_path / "curves.png", tmp_path / "rounds.csv"
    printed = compare(folder, "digits-1", "digits-2", "-o", str(picture), "--csv", str(lines))
    assert "digits-1" in printed
    assert "proximal" in printed
    with Image.open(picture) as image:
        assert image.format == "PNG"
    with lines.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["digits-1"] * 12 + ["digits-2"] * 4
    assert float(rows[0]["accuracy"]) == pytest.approx(1 - 0.85 * math.exp(-1 / 6))
    assert rows[0]["seconds"] == "9.5"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits-1"], "from 2 to 8 different runs"),
        (["digits-1", "digits-1"], "from 2 to 8 different runs"),
        (["digits-1", "digits-9"], "knows no run 'digits-9'; its newest runs: digits-3, digits-2, digits-1"),
        (["digits-1", "digits-2", "--reach", "accuracy"], "--reach accuracy: metric, >= or <=, and number"),
        (["digits-1", "digits-2", "--reach", "recall=0.5"], "'recall'; measured was accuracy, loss"),
    ],
    ids=["one", "twice", "unknown", "goal", "unmeasured"],
)
def test_what_cannot_be_compared_is_said(folder: Path, arguments: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        compare(folder, *arguments)
