"""A fleet on this machine tells what goes wrong, and leaves nothing running."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.settings import TaskSettings
from deploy.local.fleet import LocalFleet
from deploy.local.folder import FleetFolder
from deploy.viewing.view import View
from host.errors import ChildError, ConfigError
from tests.deploy.test_deploy_demo import processes_that_name

TASK = """
import numpy as np
runtime = "none-has-it"
data_contract = {"shape": (2,)}
def initial_theta():
    return [np.zeros(2, np.float32)]
"""


def fleet(folder: Path, task: str, show: Callable[[View], None] = lambda _: None) -> LocalFleet:
    """A fleet without devices."""
    opened = FleetFolder(folder / "fleet")
    file = folder / "task.py"
    file.write_text(TASK)
    return LocalFleet(opened, {task: TaskSettings(file=file)}, {}, show)


def test_a_run_that_cannot_start_says_why_and_the_fleet_ends(tmp_path: Path) -> None:
    with fleet(tmp_path, "nothing") as started:
        started.go_online()
        with pytest.raises(ChildError, match="did not start: rounds: input should be greater"):
            started.run("nothing", {"rounds": 0})
        (tmp_path / "task.py").write_text(TASK + "\nraise SystemExit('broken')\n")
        with pytest.raises(ChildError, match=r"did not start: task\.py line 8: SystemExit: broken"):
            started.run("nothing", {})
    assert processes_that_name(str(tmp_path)) == []


def test_a_service_that_ends_is_told_with_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ChildError, match=r"aggregator ended with status 78(.|\n)*no_task_name"),
        fleet(tmp_path, "no_task_name") as started,
    ):
        started.go_online()
    assert processes_that_name(str(tmp_path)) == []


def test_what_the_watcher_raises_ends_the_fleet(tmp_path: Path) -> None:
    def interrupt(view: View) -> None:
        if view.aggregator is not None and view.aggregator.online:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), fleet(tmp_path, "nothing", interrupt) as started:
        started.go_online()
    assert processes_that_name(str(tmp_path)) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(ConfigError, match="is there and not empty"):
        FleetFolder(tmp_path)
