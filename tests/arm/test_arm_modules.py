"""What `make arm-check` relies on, without an emulator."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from deploy.card.wheelhouse import PYTHONS
from tests.arm.device import MODULES, base_requirements
from tests.arm.emulated import HERE, SYSTEMS


def test_every_base_dependency_has_a_module_that_is_tried_on_arm() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    assert set(base_requirements()) == required <= MODULES.keys()
    for name in required:
        importlib.import_module(MODULES[name])


def test_every_python_that_cards_have_is_tried_on_arm() -> None:
    assert set(SYSTEMS) == set(PYTHONS)
    assert f"for suite in {' '.join(SYSTEMS.values())}; do" in (HERE / "fetch.sh").read_text()


def test_an_environment_of_the_emulated_python_runs_in_the_emulator(tmp_path: Path) -> None:
    emulator = {"EMULATOR": "env IN=emulator", "PYTHON": sys.executable}
    environment = tmp_path / "environment"
    command: list[str | Path] = [HERE / "bin/python3", "-m", "venv", "--without-pip", environment]
    subprocess.run(command, env=os.environ | emulator, check=True)
    program = "import os, sys; print(os.environ['IN'], sys.prefix)"
    said = subprocess.check_output([str(environment / "bin/python"), "-c", program], text=True)
    assert said == f"emulator {environment}\n"
