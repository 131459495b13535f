"""The guide's comparison of settings, as it stands there, with fewer rounds and seeds."""

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.command.app import run
from tests.docs.pages import ROOT, blocks, commands, files

GUIDE = ROOT / "docs/guide.md"
CLASSES = ("cat", "dog", "nobody")


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the guide's files and some images lie, and where we are."""
    for name in ("visitors.py", "plain.toml", "prox.toml"):
        (tmp_path / name).write_text(files(GUIDE)[name].text)
    chance = np.random.default_rng(0)
    for shade, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = chance.integers(80 * shade, 80 * shade + 80, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.timeout(240)
def test_the_guides_command_compares_its_settings(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    consoles = [block for block in blocks(GUIDE) if block.language == "console"]
    (command,) = (
        line for block in consoles for line, _ in commands(block) if line.startswith("midge simulate --task")
    )
    fewer = ["--rounds", "1", "--seeds", "1", "--processes", "1"]
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), *fewer])
    with pytest.raises(SystemExit, match="0"):
        run()
    table = capsys.readouterr().out
    assert "10 devices with 6 examples" in table
    assert all(f" {name} " in table for name in ("plain", "prox", "accuracy", "loss"))
    assert (workshop / "rounds.png").is_file()
    assert len((workshop / "rounds.csv").read_text().splitlines()) == 3
