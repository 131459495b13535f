"""`midge wheelhouse`, with pip and a folder of wheels instead of a network."""

import re
import tomllib
import zipfile
from pathlib import Path

import pytest

from deploy.card.wheelhouse import read_wheelhouse
from tests.deploy.test_deploy_command import midge

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
# One of each requirement, of the oldest version allowed; numpy for the card's Python and machine only.
REQUIRED = dict(
    re.findall(r"^([\w-]+)[~>=]=([\d.]+)$", "\n".join([*PROJECT["dependencies"], "pip>=25.0"]), re.MULTILINE)
)
TAGS = {"numpy": "cp313-cp313-manylinux_2_28_aarch64", "cryptography": "cp311-abi3-manylinux_2_28_aarch64"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip finds wheels, and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    for requirement, version in REQUIRED.items():
        name = requirement.replace("-", "_")
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{version}-{TAGS.get(name, 'py3-none-any')}.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.usefixtures("index")
def test_it_has_all_that_a_device_installs_and_names_what_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert midge(monkeypatch, "wheelhouse", str(tmp_path / "out"), "--python", "3.13") == 0
    made = read_wheelhouse(tmp_path / "out/cp313-aarch64")
    wheels = {path.name.split("-")[0] for path in made.files if path.suffix == ".whl"}
    assert len(REQUIRED) == len(PROJECT["dependencies"]) + 1
    assert wheels == {name.replace("-", "_") for name in REQUIRED} | {"midge"}
    assert re.fullmatch(rf"{re.escape(PROJECT['version'])}-[0-9a-f]{{8}}", made.version)
    assert made.version in capsys.readouterr().out
    assert midge(monkeypatch, "wheelhouse", str(tmp_path / "out"), "--python", "3.13") == 78
    assert "is there already" in capsys.readouterr().err


def test_the_same_wheels_are_the_same_version_and_others_another(
    monkeypatch: pytest.MonkeyPatch, index: Path, tmp_path: Path
) -> None:
    versions = []
    for name in ("first", "same", "other"):
        if name == "other":
            with zipfile.ZipFile(next(index.glob("pillow-*")), "a") as wheel:
                wheel.writestr("PIL/more.py", "")
        assert midge(monkeypatch, "wheelhouse", str(tmp_path / name), "--python", "3.13") == 0
        versions.append(read_wheelhouse(tmp_path / name / "cp313-aarch64").version)
    assert versions[0] == versions[1] != versions[2]


def test_a_wheel_that_is_not_to_be_had_is_named_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], index: Path, tmp_path: Path
) -> None:
    next(index.glob("numpy-*")).unlink()
    assert midge(monkeypatch, "wheelhouse", str(tmp_path / "out"), "--python", "3.13") == 1
    said = capsys.readouterr().err
    assert "numpy" in said
    assert "http" not in said
    assert list((tmp_path / "out").iterdir()) == []


def test_only_pythons_of_raspberry_pi_os_are_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert midge(monkeypatch, "wheelhouse", str(tmp_path), "--python", "3.9") == 78
    assert "3.11, 3.13" in capsys.readouterr().err
