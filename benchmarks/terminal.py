"""What `midge monitor` costs while a large fleet trains: share of a core, and bytes to the terminal.

A real Mosquitto gets the documents of `--devices` devices, `--rate` messages a second, in one round of all of
them; the application draws them on a terminal of 200 columns and 60 lines.
`python -m benchmarks.terminal --devices 500`
"""

import argparse
import fcntl
import json
import os
import pty
import random
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.monitor import (
    AggregatorDocument,
    DeviceDocument,
    Document,
    FederationDocument,
    ParticipantDocument,
    RoundDocument,
    RunDocument,
)
from broker.mosquitto import Mosquitto
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_ROUND,
    MONITOR_RUN,
    Role,
    Topics,
)

LINES, COLUMNS = 60, 200
BEGIN_S = 6.0
STEP_S = 0.1
TOPICS = Topics("bench")
RUN, ROUNDS = "bench-1", 20


@dataclass
class Terminal:
    """A process on a terminal of its own."""

    pid: int
    descriptor: int
    drawn_bytes: int = 0

    def drain(self) -> None:
        try:
            while got := os.read(self.descriptor, 1 << 16):
                self.drawn_bytes += len(got)
        except OSError:
            return

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def monitor(settings: BrokerSettings) -> Iterator[Terminal]:
    """Run `midge monitor` by an account until the block ends."""
    options = ["--broker", settings.url, "--username", settings.username or "", "--password-file"]
    options += [str(settings.password_file), "--federation", settings.federation, "--prefix", settings.prefix]
    pid, descriptor = pty.fork()
    if pid == 0:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        os.execv(sys.executable, [sys.executable, "-m", "deploy.command.entry", "monitor", *options])  # noqa: S606
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    terminal = Terminal(pid, descriptor)
    threading.Thread(target=terminal.drain, daemon=True).start()
    try:
        yield terminal
    finally:
        os.write(descriptor, b"q")
        os.waitpid(pid, 0)
        os.close(descriptor)


class Fleet:
    """Says what an aggregator would say of a round in which everybody trains."""

    def __init__(self, session: Session, devices: int) -> None:
        self._session = session
        self._random = random.Random(0)  # noqa: S311 - no secret
        self.progress = {f"device-{number:04}": 0.0 for number in range(devices)}

    def begin(self) -> None:
        count = len(self.progress)
        self._say(AggregatorDocument(online=True), TOPICS.topic(MONITOR_AGGREGATOR))
        federation = FederationDocument(devices=count, live=count, run=RUN, phase="training")
        self._say(federation, TOPICS.topic(MONITOR_FEDERATION))
        run = RunDocument(
            run=RUN,
            task="t",
            state="training",
            round=ROUNDS,
            rounds=50,
            started_unix_s=1.0,
            seconds_left=600.0,
        )
        self._say(run, TOPICS.topic(MONITOR_RUN, run=RUN))
        for number in range(1, ROUNDS + 1):
            self.round(number, "completed" if number < ROUNDS else None)
        for name in self.progress:
            self._device(name)

    def round(self, number: int, outcome: str | None) -> None:
        parts = {
            name: ParticipantDocument(status="invited", training={"loss": self._random.random()})
            for name in self.progress
        }
        document = RoundDocument(
            run=RUN,
            round=number,
            phase="training",
            target=len(parts),
            quorum=1,
            reported=0,
            seconds_left=300.0,
            participants=parts,
            outcome=outcome,
        )
        self._say(document, TOPICS.topic(MONITOR_ROUND, run=RUN, round=number))

    def step(self, messages: int) -> None:
        for name in self._random.sample(sorted(self.progress), messages):
            self.progress[name] = (self.progress[name] + 0.05) % 1
            self._device(name)

    def _device(self, name: str) -> None:
        document = DeviceDocument(
            device=name,
            live=True,
            state="training",
            progress=self.progress[name],
            examples_per_s=self._random.uniform(10, 50),
            temperature_c=self._random.uniform(40, 85),
            seconds_left=self._random.uniform(10, 200),
        )
        self._say(document, TOPICS.topic(MONITOR_DEVICE, device=name))

    def _say(self, document: Document, topic: str) -> None:
        said = document.model_copy(update={"at_unix_s": time.time(), "renewed_every_s": 30.0})
        while self._session.publish(topic, said.payload(), retain=True) is None:
            time.sleep(STEP_S)


def measured(devices: int, rate: int, seconds: float) -> dict[str, float]:
    """Percent of a core, and kB/s to the terminal."""
    accounts = {"aggregator": Role.AGGREGATOR, "monitor": Role.MONITOR}
    with (
        tempfile.TemporaryDirectory() as folder,
        Mosquitto(Path(folder), TOPICS, accounts, persistence=False) as broker,
    ):
        session = Session(
            broker.settings("aggregator"), "aggregator", lambda _: None, will=None, subscriptions=[]
        )
        session.start()
        fleet = Fleet(session, devices)
        fleet.begin()
        with monitor(broker.settings("monitor")) as terminal:
            _train(fleet, rate, BEGIN_S)
            began, cpu_s, drawn = time.monotonic(), terminal.cpu_s(), terminal.drawn_bytes
            _train(fleet, rate, seconds)
            took = time.monotonic() - began
            found = {
                "core_percent": 100 * (terminal.cpu_s() - cpu_s) / took,
                "terminal_kb_per_s": (terminal.drawn_bytes - drawn) / took / 1000,
            }
        session.stop()
    return {name: round(value, 1) for name, value in found.items()}


def _train(fleet: Fleet, rate: int, seconds: float) -> None:
    for step in range(round(seconds / STEP_S)):
        fleet.step(max(1, round(rate * STEP_S)))
        if step % round(1 / STEP_S) == 0:
            fleet.round(ROUNDS, None)
        time.sleep(STEP_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--rate", type=int, default=50, help="messages a second about devices")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    found = measured(given.devices, given.rate, given.seconds)
    print(f"{given.devices} devices, {given.rate} messages/s: {found['core_percent']} % of a core")
    print(json.dumps({"devices": given.devices, "rate": given.rate, **found}))


if __name__ == "__main__":
    main()
