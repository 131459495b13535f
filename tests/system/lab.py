"""A federation of real processes on a real Mosquitto, for tests that pull its plugs."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np

from broker.control import Reply, Request, SettingValue, Verb
from broker.events import Received, SessionEvent
from broker.mosquitto import Mosquitto
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import Role, Topics
from deploy.command.control import UnansweredError, ask
from host.inbox import Inbox
from tests.system.hand import Hand

PATIENCE_S = 90.0
ANSWER_S = 5.0
HEARTBEAT_S = 0.5
DEVICES = ("pi-1", "pi-2", "pi-3")
ROLES = {"aggregator": Role.AGGREGATOR, "operator": Role.OPERATOR, "monitor": Role.MONITOR}
# Without Keras: what becomes of kills, full disks, keys and links does not depend on who trains, and
# TensorFlow takes seconds of a processor each time that an aggregator or a trainer starts.
TASK = Path(__file__).with_name("softmax_task.py")
KERAS_TASK = Path(__file__).with_name("blobs_task.py")
# For agents of TASK: each batch takes so long, and no processor.
SLOWLY = {"LAB_BATCH_S": "0.02"}
PLUGINS = Path(__file__).with_name("plugins")
Result = TypeVar("Result")
Document = dict[str, Any]


class Process:
    """One of our commands as a process with a log."""

    def __init__(
        self, command: str, config: Path, log: Path, environment: Mapping[str, str], *arguments: str
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [
                    Path(sys.executable).with_name(command),
                    "run",
                    "--config",
                    str(config),
                    "--log-level",
                    "debug",
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environment},
            )
        self.pid = self._process.pid

    def kill(self) -> None:
        """Like a power cut."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Like systemd: SIGTERM, and the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)

    def wait(self) -> int:
        return self._process.wait(PATIENCE_S)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


class Lab:
    """Folder, broker, and whatever of the federation is running; everything ends with it."""

    patience_s = PATIENCE_S

    def __init__(
        self, folder: Path, broker: BrokerSettings | None = None, usernames: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self._usernames = usernames or {}
        self.topics = broker.topics if broker else Topics("lab")
        users = ROLES | dict.fromkeys((*DEVICES, "pi-4", "pi-5"), Role.DEVICE)
        self.mosquitto = Mosquitto(folder / "mosquitto", self.topics, users)
        self._broker = broker
        self.processes: list[Process] = []
        self.hands: list[Hand] = []
        self.documents: dict[str, Document] = {}
        self.history: list[tuple[str, Document]] = []

    def account(self, user: str) -> BrokerSettings:
        """How a user reaches the broker: ours, or the one that was given."""
        if self._broker is None:
            return self.mosquitto.settings(user)
        name = self._usernames.get(user, user)
        password = self._broker.password_file
        other = {"username": name, "password_file": password.with_name(name) if password else None}
        return self._broker.model_copy(update=other)

    def __enter__(self) -> Self:
        if self._broker is None:
            self.mosquitto.start()
        self._inbox: Inbox[SessionEvent] = Inbox(100_000)
        everything = f"{self.topics.root}/monitor/#"
        settings = self.account("monitor").model_copy(update={"reconnect_max_s": 0.5})
        self._monitor = Session(settings, "lab", self._inbox.put, will=None, subscriptions=[(everything, 1)])
        self._monitor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._monitor.stop()
        self.leave()
        for process in self.processes:
            if process.alive:
                process.kill()
        if self._broker is None:
            self.mosquitto.stop()
        if error is not None:
            self._show_logs()

    # -- starting ---------------------------------------------------------------------------------

    def start_aggregator(
        self,
        task: Path | str = TASK,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        name: str = "aggregator",
        client_id: str | None = None,
        **settings: object,
    ) -> Process:
        """The aggregator, with one task `blobs`; `environment` can slow it down (see the task files)."""
        path = self.folder / f"{name}.toml"
        lines = {"folder": self.folder / name, "heartbeat_s": HEARTBEAT_S, **settings}
        broker = self.account("aggregator").model_copy(update={"client_id": client_id})
        path.write_text(
            "\n".join(f"{key} = {json.dumps(value, default=str)}" for key, value in lines.items())
            + f"\n[tasks.blobs]\nfile = {json.dumps(str(task))}\n"
            + broker_table(broker)
        )
        return self._start("midge-aggregator", path, name, environment, *arguments)

    def start_agent(
        self,
        device: str,
        *,
        examples: int = 60,
        seed: int | None = None,
        port: int | None = None,
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> Process:
        """An agent with its own examples of the task, the same each time."""
        data = self.folder / f"{device}.npz"
        if not data.exists():
            write_examples(data, examples, seed=int(device[-1]) if seed is None else seed)
        path = self.folder / f"{device}.toml"
        broker = self.account(device)
        if port is not None:
            broker = broker.model_copy(update={"url": f"mqtt://127.0.0.1:{port}"})
        lines = {"device": device, "state_folder": self.folder / device, "nice": 0, **settings}
        path.write_text(
            "\n".join(f"{key} = {json.dumps(value, default=str)}" for key, value in lines.items())
            + f'\n[data]\nkind = "npz"\npath = {json.dumps(str(data))}\n'
            + broker_table(broker)
        )
        return self._start("midge-agent", path, device, environment)

    def start_agents(self, *devices: str, **settings: object) -> dict[str, Process]:
        return {device: self.start_agent(device, **settings) for device in devices or DEVICES}  # type: ignore[arg-type]

    def _start(
        self,
        command: str,
        config: Path,
        name: str,
        environment: Mapping[str, str] | None = None,
        *arguments: str,
    ) -> Process:
        every = {"PYTHONPATH": search_path(), **(environment or {})}
        process = Process(command, config, self.folder / f"{name}.log", every, *arguments)
        self.processes.append(process)
        return process

    def hand(self, device: str) -> Hand:
        """A device moved by hand."""
        self.hands.append(Hand(self.account(device), device))
        return self.hands[-1]

    def leave(self) -> None:
        """All devices moved by hand are gone."""
        while self.hands:
            self.hands.pop().leave()

    # -- operating --------------------------------------------------------------------------------

    def ask(self, verb: Verb, task: str | None = None, **settings: SettingValue) -> Reply:
        request = Request(id=os.urandom(8).hex(), verb=verb, task=task, settings=settings)
        return ask(self.account("operator"), request, PATIENCE_S)

    def start_run(self, **settings: SettingValue) -> str:
        """Start a run, and give its id."""
        reply = self.ask(Verb.START, "blobs", **settings)
        assert reply.ok, reply.text
        assert reply.run is not None
        return reply.run

    def ask_without_waiting(self, task: str, **settings: SettingValue) -> None:
        """Send a start whose answer would take too long."""
        self.until(lambda seen: seen.get("aggregator", {}).get("online"))
        request = Request(id=os.urandom(8).hex(), verb=Verb.START, task=task, settings=settings)
        with contextlib.suppress(UnansweredError):
            ask(self.account("operator"), request, 2.0)

    # -- watching ---------------------------------------------------------------------------------

    def until(self, found: Callable[[dict[str, Document]], Result | None]) -> Result:
        """Read the monitor topics until `found` gives something that is not None or False."""
        deadline = time.monotonic() + self.patience_s
        while (left := deadline - time.monotonic()) > 0:
            result = found(self.documents)
            if result is not None and result is not False:
                return result
            event = self._inbox.get(left)
            if isinstance(event, Received):
                name = event.topic.removeprefix(f"{self.topics.root}/monitor/")
                document = json.loads(event.payload) if event.payload else {}
                self.documents[name] = document
                self.history.append((name, document))
        raise AssertionError(
            f"did not happen in {self.patience_s:g} s; seen: {json.dumps(self.documents, indent=1)}"
        )

    def until_state(self, device: str, *states: str) -> Document:
        """Wait until a device does one of these."""

        def found(documents: dict[str, Document]) -> Document | None:
            document = documents.get(f"devices/{device}", {})
            return document if document.get("state") in states else None

        return self.until(found)

    def until_round(self, run: str, number: int, *phases: str) -> Document:
        """Wait until a round is in one of these phases; `closed` is the last."""

        def found(documents: dict[str, Document]) -> Document | None:
            document = documents.get(f"runs/{run}/rounds/{number}", {})
            return document if document.get("phase") in phases else None

        return self.until(found)

    def until_ended(self, run: str) -> Document:
        """Wait until a run is over."""

        def found(documents: dict[str, Document]) -> Document | None:
            document = documents.get(f"runs/{run}", {})
            return document if document.get("state") in {"finished", "stopped", "failed"} else None

        return self.until(found)

    def run_folder(self, run: str) -> Path:
        return self.folder / "aggregator" / "runs" / run

    def log(self, name: str) -> str:
        """What a process has logged so far, over all its lives."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def accepted(self, run: str, number: int) -> dict[str, str]:
        """Digest by device of the updates that the ledger counts."""
        with contextlib.closing(sqlite3.connect(self.folder / "aggregator" / "ledger.sqlite")) as ledger:
            query = "SELECT device, digest FROM updates WHERE run = ? AND round = ?"
            return dict(ledger.execute(query, (run, number)).fetchall())

    def courses(self, run: str) -> dict[tuple[int, str], list[str]]:
        """What each participant was seen to do, by round and device."""
        with contextlib.closing(sqlite3.connect(self.folder / "aggregator" / "ledger.sqlite")) as ledger:
            found = ledger.execute(
                "SELECT round, device, steps FROM courses WHERE run = ?", (run,)
            ).fetchall()
        return {(number, device): [step[0] for step in json.loads(steps)] for number, device, steps in found}

    def retained(self, below: str) -> list[str]:
        """Topics below the root on which the broker retains something."""
        inbox: Inbox[SessionEvent] = Inbox(100_000)
        end = f"{self.topics.root}/federation"
        settings = self.account("aggregator")
        subscriptions = [(f"{self.topics.root}/{below}", 1), (end, 1)]
        session = Session(settings, "retained", inbox.put, will=None, subscriptions=subscriptions)
        session.start()
        found: list[str] = []
        while (event := inbox.get(ANSWER_S)) is not None:
            if isinstance(event, Received) and event.topic == end:
                break
            if isinstance(event, Received) and event.retained:
                found.append(event.topic.removeprefix(f"{self.topics.root}/"))
        session.stop()
        # What does not fit the broker's queue for us is dropped without a word, and our mark with it.
        return found if event is not None else [*found, "more than the broker can queue"]

    def until_cleared(self, below: str) -> None:
        """Wait until the broker retains nothing below the root there."""
        deadline = time.monotonic() + PATIENCE_S
        while left := self.retained(below):
            assert time.monotonic() < deadline, f"still retained: {left}"
            time.sleep(0.2)

    def _show_logs(self) -> None:
        for log in sorted(self.folder.glob("*.log")):
            sys.stderr.write(f"==== {log.name}\n{log.read_text(errors='replace')[-4000:]}\n")


def search_path() -> str:
    """Where processes find PLUGINS, and what they found before."""
    return os.pathsep.join(filter(None, (str(PLUGINS), os.environ.get("PYTHONPATH"))))


def broker_table(settings: BrokerSettings) -> str:
    """A [broker] table for a settings file."""
    given = settings.model_dump(mode="json", exclude_defaults=True) | {"reconnect_max_s": 0.5}
    return "[broker]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items())


def write_examples(path: Path, count: int, *, seed: int) -> None:
    """Three blobs in four dimensions; which of them a device has most of depends on its seed."""
    chance = np.random.default_rng(seed)
    y = chance.choice(3, count, p=np.roll([0.6, 0.3, 0.1], seed)).astype(np.int32)
    centres = np.array([[2, 0, 0, 1], [0, 2, 0, -1], [0, 0, 2, 0]], np.float32)
    x = (centres[y] + chance.normal(0, 0.7, (count, 4))).astype(np.float32)
    np.savez(path, x=x, y=y)
