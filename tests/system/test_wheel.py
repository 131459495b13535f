"""The wheel in an environment of its own, with what a device installs and nothing more."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aggregator.evaluator import MODULE
from host.children import ask_once

ROOT = Path(__file__).parents[2]
EXPORT_S = 120.0
HEAVY = ("tensorflow", "keras", "sklearn", "matplotlib", "typer", "rich")

pytestmark = pytest.mark.timeout(300)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    # Not in the folder of the sources, nor told of it: only what is installed shall be found.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(arguments, cwd="/", env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("midge-*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a base install."""
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder, with_pip=True)
    installed = run(folder / "bin/python", "-m", "pip", "install", "--quiet", "--no-input", wheel)
    assert installed.returncode == 0, installed.stderr
    return folder / "bin"


def test_it_holds_the_demo_s_tasks_and_types_but_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert b"def build_model" in archive.read("deploy/demo/tasks/digits.task")
        assert b"def build_model" in archive.read("deploy/demo/tasks/digits_missing.task")
    assert "edge_agent/py.typed" in names
    assert [name for name in names if name.startswith(("tests/", "examples/", "benchmarks/"))] == []


@pytest.mark.parametrize("command", ["midge-agent", "midge-aggregator"])
def test_services_explain_themselves_on_a_base_install(scripts: Path, command: str) -> None:
    helped = run(scripts / command, "--help")
    assert helped.returncode == 0, helped.stderr
    assert "run" in helped.stdout


def test_the_operator_s_command_says_what_to_install(scripts: Path) -> None:
    refused = run(scripts / "midge")
    assert refused.returncode == 78
    assert "pip install 'midge[operator]'" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_device_gets_nothing_heavy(scripts: Path) -> None:
    code = f"import importlib.util as u; print([m for m in {HEAVY!r} if u.find_spec(m)])"
    assert run(scripts / "python", "-c", code).stdout == "[]\n"
    code = "import edge_agent.main, edge_agent.service"
    assert run(scripts / "python", "-c", code).stderr == ""


def test_a_base_install_trains_what_was_exported(scripts: Path, tmp_path: Path) -> None:
    exported = tmp_path / "by" / "export"
    request = {
        "task": str(ROOT / "tests/arm/mnist_cnn.py"),
        "folder": str(exported),
        "seed": 0,
        "batch_size": 8,
    }
    answer = ask_once(MODULE, {"verb": "export", **request}, EXPORT_S)
    assert answer["event"] == "exported", answer
    x = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1)).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(40) % 10)
    files = (exported / "program.json", tmp_path / "data.npz", "--theta", exported / "theta.f32")
    tried = run(scripts / "midge-agent", "try", *files)
    assert tried.returncode == 0, tried.stderr
    told = dict(line.split(maxsplit=1) for line in tried.stdout.splitlines())
    assert told["after"].startswith("loss ")
    assert told["after"] != told["before"]


def test_importing_the_agent_loads_nothing_heavy() -> None:
    heavy = (*HEAVY, "numpy")
    code = f"import sys, edge_agent.main; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
