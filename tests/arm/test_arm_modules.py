"""What `make arm-check` relies on, without an emulator."""

import importlib
import re
import tomllib
from pathlib import Path

from tests.arm.device import MODULES


def test_every_base_dependency_has_a_module_that_is_tried_on_arm() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    assert required <= MODULES.keys()
    for name in required:
        importlib.import_module(MODULES[name])
