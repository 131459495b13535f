"""A federation in its home, over TLS: a stolen device is cut off, and its replacement takes its place."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.events import Received
from broker.monitor import DeviceDocument
from broker.mosquitto import _free_port, find_mosquitto
from broker.topics import MONITOR_DEVICE, MONITOR_RUN, Role
from deploy.home.create import complete, create
from tests.broker.peer import Peer
from tests.system.lab import TASK, Process, search_path, write_examples

PATIENCE_S = 60.0
REFUSED = 77


class Federation:
    """Mosquitto and whatever else is running, with the settings that the verbs made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = {f"ports.{name}": _free_port() for name in ("devices", "enrolment", "viewers", "local")}
        self.home = create(folder / "home", {"hosts": ["127.0.0.1"], "name": "lab", **ports})
        complete(self.home)
        self.processes: list[Process] = []
        data = folder / "examples.npz"
        write_examples(data, 60, seed=1)
        for device in ("pi-1", "pi-2"):
            state = f"state_folder={folder / 'states' / device}"
            chosen = (f"data.path={data}", state, "nice=0", "broker.reconnect_max_s=0.5")
            self.midge("enroll", device, *(word for pair in chosen for word in ("--set", pair)))
        settings = self.home.of(Role.AGGREGATOR) / "aggregator.toml"
        text = settings.read_text().replace("#heartbeat_s = 5.0", "heartbeat_s = 0.5")
        settings.write_text(f"{text}\n[tasks.blobs]\nfile = {json.dumps(str(TASK))}\n")

    def midge(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("midge"), *arguments],
            env={**os.environ, "MIDGE_HOME": str(self.home.root)},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def start(self, command: str, config: Path, name: str) -> Process:
        process = Process(command, config, self.folder / f"{name}.log", {"PYTHONPATH": search_path()})
        self.processes.append(process)
        return process

    def agent(self, device: str) -> Process:
        return self.start("midge-agent", self.home.devices / device / "agent.toml", device)

    @contextlib.contextmanager
    def broker(self) -> Iterator[Peer]:
        """Run it, and all that is started meanwhile, watched by the operator."""
        log = self.folder / "mosquitto.log"
        with log.open("ab") as file:
            broker = subprocess.Popen(
                [find_mosquitto(), "-c", self.home.broker / "mosquitto.conf"], stderr=file
            )
        try:
            deadline = time.monotonic() + PATIENCE_S
            while " running" not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.01)
            password = self.home.of(Role.OPERATOR) / "password"
            operator = self.home.local_broker(Role.OPERATOR).model_copy(update={"password_file": password})
            watched = [self.home.topics.filter(branch) for branch in (MONITOR_DEVICE, MONITOR_RUN)]
            with Peer(operator, "watcher", *watched) as watcher:
                yield watcher
        finally:
            for process in self.processes:
                if process.alive:
                    process.kill()
            broker.terminate()
            broker.wait()


def seen(watcher: Peer, federation: Federation, device: str) -> DeviceDocument:
    """Wait until the aggregator shows that a device lives."""
    topic = federation.home.topics.topic(MONITOR_DEVICE, device=device)

    def lives(message: Received) -> bool:
        return message.topic == topic and bool(message.payload) and json.loads(message.payload)["live"]

    return DeviceDocument.model_validate_json(watcher.until(Received, lives).payload)


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.mark.timeout(240)
def test_a_stolen_device_is_cut_off_and_its_replacement_trains_under_its_id(federation: Federation) -> None:
    operator = str(federation.home.of(Role.OPERATOR) / "operator.toml")
    with federation.broker() as watcher:
        federation.start(
            "midge-aggregator", federation.home.of(Role.AGGREGATOR) / "aggregator.toml", "aggregator"
        )
        federation.agent("pi-1")
        stolen = federation.agent("pi-2")
        for device in ("pi-1", "pi-2"):
            assert seen(watcher, federation, device).heard_at_unix_s is not None

        said = federation.midge("revoke", "pi-2", "--reason", "stolen")
        assert "refuses a certificate of pi-2 as revoked" in said
        assert "pi-2 is excluded" in said
        shown = federation.home.topics.topic(MONITOR_DEVICE, device="pi-2")
        watcher.until(Received, lambda message: message.topic == shown and not message.payload)
        assert stolen.wait() == REFUSED
        rows = {row["device"]: row for row in json.loads(federation.midge("devices", "--json"))}
        assert (rows["pi-1"]["revoked"], rows["pi-1"]["state"]) == (None, "idle")
        assert (rows["pi-2"]["revoked"] is not None, rows["pi-2"]["state"]) == (True, "")

        assert "pi-2 is heard again" in federation.midge("replace", "pi-2")
        federation.agent("pi-2")
        seen(watcher, federation, "pi-2")
        settings = ("--set", "rounds=1", "--set", "min_devices=2", "--set", "quorum=2")
        federation.midge("start", "blobs", *settings, "--config", operator)

        def ended(message: Received) -> bool:
            return "/runs/" in message.topic and json.loads(message.payload)["state"] == "finished"

        watcher.until(Received, ended)
        rows = {row["device"]: row for row in json.loads(federation.midge("devices", "--json"))}
        assert rows["pi-2"]["revoked"] is None
