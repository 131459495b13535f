"""The demo's folder: examples, settings files, state and logs, as one would set it all up by hand."""

import shutil
from pathlib import Path

from aggregator.settings import SIGNING_KEY
from aggregator.toml import to_toml
from broker.settings import BrokerSettings
from broker.signing import Signer
from deploy.demo.lessons import Lesson
from deploy.demo.shares import Share, share_out, write_examples
from host.errors import ConfigError

HEARTBEAT_S = 0.5


class DemoFolder:
    """Where things lie; raises ConfigError when something is there already."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            raise ConfigError(f"{root} is there and not empty: name a new folder, or remove it first")
        self.task = self.root / "task.py"
        self.test = self.root / "test.npz"
        self.logs = self.root / "logs"
        self.broker = self.root / "broker"
        self.aggregator = self.root / "aggregator"
        self.solos = self.root / "alone"

    def fill(self, lesson: Lesson, devices: int, seed: int) -> list[Share]:
        """Write the task, the held-out examples and each device's share; raises DataError, ConfigError."""
        pool = lesson.pool(seed)
        self.solos.mkdir(parents=True)
        shutil.copyfile(lesson.task, self.task)
        write_examples(self.test, pool.test)
        return share_out(pool.training, devices, seed, self.root / "data")

    def write_aggregator(self, broker: BrokerSettings, lesson: Lesson) -> Path:
        """Write the aggregator's settings file."""
        task = {"file": str(self.task), "settings": dict(lesson.settings)}
        return self._write(
            "aggregator.toml",
            {
                "folder": str(self.aggregator),
                "heartbeat_s": HEARTBEAT_S,
                "broker": _table(broker),
                "tasks": {lesson.name: task},
            },
        )

    def write_agent(self, broker: BrokerSettings, share: Share) -> Path:
        """Write a device's settings file, which pins the aggregator's key; the first one makes it."""
        return self._write(
            f"agent-{share.device}.toml",
            {
                "device": share.device,
                "aggregator_key": Signer(self.aggregator / SIGNING_KEY).public_key,
                "state_folder": str(self.root / "devices" / share.device),
                "broker": _table(broker),
                "data": {"kind": "npz", "path": str(share.path)},
            },
        )

    def run(self, run: str) -> Path:
        """A run's folder, with its model and history."""
        return self.aggregator / "runs" / run

    def _write(self, name: str, settings: dict[str, object]) -> Path:
        path = self.root / name
        path.write_text(to_toml(settings), encoding="utf-8")  # type: ignore[arg-type]  # as JSON as can be
        return path


def _table(broker: BrokerSettings) -> dict[str, object]:
    return broker.model_dump(mode="json", exclude_defaults=True)
