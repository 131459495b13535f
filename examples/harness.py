"""What every example has in common: what is asked of it, what it gives, and its README's figures."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.settings import TaskSettings
from broker.control import SettingValue
from deploy.local.fleet import LocalFleet
from deploy.local.folder import FleetFolder
from deploy.local.screen import Screen
from edge_agent.data.settings import DataSettings
from host.errors import ConfigError

ROOT = Path(__file__).parent
# Agents by the dozen on few cores: one that is slow to be heard is not lost.
HEARTBEAT_S = 2.0
_REACHED = re.compile(r"(<!-- reached -->\n).*?(<!-- end -->)", re.DOTALL)

Result = dict[str, Any]
"""What one seed reached, as JSON."""


@dataclass(frozen=True)
class Order:
    """What to run: the folder of the example's data, a seed, a new folder, and fewer rounds for a try."""

    data: Path | None
    seed: int
    folder: Path
    rounds: int | None = None

    def needed_data(self, what: str) -> Path:
        """The folder of data; raises ConfigError without one."""
        if self.data is None or not self.data.is_dir():
            raise ConfigError(f"--data DIR is needed: {what}")
        return self.data


@dataclass(frozen=True)
class Example:
    """`play` runs it for one seed; `report` draws pictures into a folder and gives text of all seeds."""

    play: Callable[[Order, Screen], Result]
    report: Callable[[Sequence[Result], Path], str]


def local_fleet(
    folder: FleetFolder,
    name: str,
    settings: Mapping[str, SettingValue],
    devices: Mapping[str, tuple[DataSettings, str]],
    screen: Screen,
) -> LocalFleet:
    """A fleet for one task, `task.py` in the folder; devices by name with their data and words about it."""
    tasks = {name: TaskSettings(file=folder.root / "task.py", settings=dict(settings))}
    about = {device: words for device, (_, words) in devices.items()}
    began = time.monotonic()
    return LocalFleet(
        folder,
        tasks,
        {device: data for device, (data, _) in devices.items()},
        lambda view: screen.follow(view, about, began),
        heartbeat_s=HEARTBEAT_S,
    )


def history_of(folder: FleetFolder, run: str) -> list[dict[str, Any]]:
    """A run's rounds, as history.json tells them."""
    found: list[dict[str, Any]] = json.loads((folder.run(run) / "history.json").read_text(encoding="utf-8"))
    return found


def spread(values: Sequence[float]) -> str:
    """Mean, standard deviation and range, in percent."""
    percent = 100 * np.array(values)
    if len(percent) == 1:
        return f"{percent[0]:.2f} %"
    return (
        f"{percent.mean():.2f} ± {percent.std(ddof=1):.2f} % ({percent.min():.2f} to {percent.max():.2f} %)"
    )


def write_reached(readme: Path, text: str) -> None:
    """Put the figures between the README's marks; raises ConfigError when it has none."""
    page = readme.read_text(encoding="utf-8")
    filled, marks = _REACHED.subn(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page)
    if marks != 1:
        raise ConfigError(f"{readme}: no line <!-- reached --> followed by a line <!-- end -->")
    readme.write_text(filled, encoding="utf-8")
