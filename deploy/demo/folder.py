"""The demo's folder: a local fleet's, with the task, the examples and the models of devices alone."""

import shutil
from pathlib import Path

from deploy.demo.lessons import Lesson
from deploy.demo.shares import Share, share_out, write_examples
from deploy.local.folder import FleetFolder


class DemoFolder(FleetFolder):
    """Where things lie; raises ConfigError when something is there already."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.task = self.root / "task.py"
        self.test = self.root / "test.npz"
        self.solos = self.root / "alone"

    def fill(self, lesson: Lesson, devices: int, seed: int) -> list[Share]:
        """Write the task, the held-out examples and each device's share; raises DataError, ConfigError."""
        pool = lesson.pool(seed)
        self.solos.mkdir(parents=True)
        shutil.copyfile(lesson.task, self.task)
        write_examples(self.test, pool.test)
        return share_out(pool.training, devices, seed, self.root / "data")
