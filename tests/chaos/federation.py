"""A federation of real processes that come back after every kill, each behind a link of its own."""

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from broker.settings import BrokerSettings
from host.exits import ExitCode
from tests.chaos import books
from tests.chaos.schedule import Deed, Ill, Kill, Save, Trouble, Victim
from tests.chaos.task import examples
from tests.chaos.weather import FINE, Weather
from tests.system.lab import Lab, Process

DEVICES = ("pi-1", "pi-2", "pi-3", "pi-4", "pi-5")
TASK = Path(__file__).with_name("task.py")
EXAMPLES = 60
AGGREGATOR, BROKER = "aggregator", "broker"
INSPECTOR_KILLED = "edge_agent.trainer ended before it answered: killed by SIGKILL (out of memory?)"
# A dead link is found out in a few seconds, so that a run has many of them.
KEEPALIVE_S, CONNECT_S = 2, 5.0
# Updates of 6 kB in chunks of 1 KiB: kills fall between them.
SETTINGS: dict[str, Any] = {
    "chunk_bytes": 1024,
    "upload_window": 3,
    "uploads_at_a_time": 2,
    "upload_lease_s": 2.0,
}


class Federation(Lab):
    """Broker, aggregator and five devices; `violations` has what must never be seen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.violations: list[str] = []
        self._running: dict[str, Process] = {}
        # When whom to start again, or to let have a fine link.
        self._due: dict[str, float] = {}
        self._fine_at: dict[str, float] = {}
        self._links: dict[str, Weather] = {}
        self._read: dict[str, int] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        self._links = {user: Weather(self.mosquitto.port) for user in (AGGREGATOR, *DEVICES)}
        for number, device in enumerate(DEVICES):
            x, y = examples(EXAMPLES + number, seed=number)
            np.savez(self.data(device), x=x, y=y)
        for name in (AGGREGATOR, *DEVICES):
            self._begin(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for link in self._links.values():
            link.__exit__(kind, error, trace)

    def account(self, user: str) -> BrokerSettings:
        """Through the user's link, where it has one."""
        settings = super().account(user)
        changes: dict[str, object] = {"keepalive_s": KEEPALIVE_S, "connect_timeout_s": CONNECT_S}
        if (link := self._links.get(user)) is not None:
            changes["url"] = f"mqtt://127.0.0.1:{link.port}"
        return settings.model_copy(update=changes)

    def data(self, device: str) -> Path:
        return self.folder / f"{device}.npz"

    # -- what happens ------------------------------------------------------------------------------

    def do(self, deed: Deed) -> str | None:
        """Have it happen; the name under which it counts, None when there was nobody to harm."""
        match deed:
            case Kill():
                return str(deed.victim) if self._kill(deed) else None
            case Trouble():
                return str(deed.ill) if self._trouble(deed) else None
            case Save():
                if BROKER not in self._due:
                    os.kill(self.mosquitto.pid, signal.SIGUSR1)
                return None

    def tend(self) -> None:
        """Start again what was down for long enough, and see that all else lives."""
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            self._start_again(name)
        for user in [user for user, due in self._fine_at.items() if due <= now]:
            self._links[user].slow(FINE)
            del self._fine_at[user]
        for name, process in self._running.items():
            if not process.alive and name not in self._due:
                self._due[name] = now
                if not self._gave_up(name, process.wait()):
                    self.violations.append(f"{name} ended by itself, with exit status {process.wait()}")

    def heal(self) -> None:
        """All links are fine, and all that were killed are back."""
        for user in self._fine_at:
            self._fine_at[user] = 0.0
        for name in self._due:
            self._due[name] = 0.0
        self.tend()

    def _gave_up(self, name: str, status: int) -> bool:
        """Whether an agent ended as it should when the child that first looks at its data was killed."""
        return status == ExitCode.FAILED and self.log(name).endswith(f"{INSPECTOR_KILLED}\n")

    def _kill(self, kill: Kill) -> bool:
        name = {Victim.BROKER: BROKER, Victim.AGGREGATOR: AGGREGATOR}.get(kill.victim, kill.device)
        if name in self._due:
            return False
        if kill.victim is Victim.TRAINER:
            return _kill_children(self._running[name].pid)
        self._due[name] = time.monotonic() + kill.down_s
        if kill.victim is Victim.BROKER:
            self.mosquitto.kill()
            return True
        self._running[name].kill()
        if kill.victim is Victim.AGGREGATOR:
            self.violations += books.unspooled(self.folder / AGGREGATOR)
        return True

    def _trouble(self, trouble: Trouble) -> bool:
        link = self._links[trouble.user]
        if trouble.ill is Ill.CUT:
            return link.cut() > 0
        if trouble.ill is Ill.HALF_OPEN:
            return link.leave_half_open() > 0
        link.slow(trouble.slowness)
        self._fine_at[trouble.user] = time.monotonic() + trouble.seconds
        return True

    def _start_again(self, name: str) -> None:
        del self._due[name]
        if name == BROKER:
            self.mosquitto.start()
        else:
            self._begin(name)

    def _begin(self, name: str) -> None:
        if name == AGGREGATOR:
            self._running[name] = self.start_aggregator(TASK, **SETTINGS)
        else:
            # The higher its number, the slower the device: 20 batches take 0.4 to 1.2 s.
            pace = {"LAB_BATCH_S": str(0.01 + 0.01 * DEVICES.index(name))}
            self._running[name] = self.start_agent(name, environment=pace)

    # -- what the books say --------------------------------------------------------------------------

    def run_of(self, request: str) -> dict[str, str | None] | None:
        """The run that a request started: `run`, and `outcome` once it has one."""
        with contextlib.suppress(sqlite3.OperationalError):
            found = books.rows(
                self.folder / AGGREGATOR / "ledger.sqlite",
                "SELECT run, outcome, reason FROM runs WHERE request = ?",
                request,
            )
            return found[0] if found else None
        return None

    def unanswered(self) -> Mapping[str, str]:
        """Which devices are not done with their updates, and why."""
        waits = {device: books.unanswered(self.folder / device) for device in DEVICES}
        return {device: why for device, why in waits.items() if why}

    def news(self, name: str) -> str:
        """What a process has logged since this was asked for the last time."""
        with (self.folder / f"{name}.log").open("rb") as log:
            log.seek(self._read.get(name, 0))
            text = log.read()
        self._read[name] = self._read.get(name, 0) + len(text)
        return text.decode(errors="replace")


def _kill_children(parent: int) -> bool:
    """Whether there were any."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    pids = [int(pid) for path in children for pid in path.read_text().split()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)
