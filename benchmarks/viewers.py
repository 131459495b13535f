"""What watching a large fleet costs: the monitor topics themselves, `midge monitor` and `midge dashboard`.

A real aggregator on a real Mosquitto, with `--devices` devices that `benchmarks.crowd` plays: they train for
25 to 45 s a round, so that rounds open and close while it is measured. `midge monitor` draws on a terminal of
200 columns and 60 lines; one headless Chromium has the dashboard's overview open. Messages and bytes (topic
and payload) are counted from the first birth on, processor time over `--seconds` once a round is under way.
Prints a table with the targets and a JSON line; exits with 1 when a target is missed. What is in brackets has
none.

    python -m benchmarks.viewers --devices 500
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.crowd import Crowd, allow
from benchmarks.light_agent import children_of, wait_for, write_settings
from benchmarks.terminal import monitor
from broker.control import Verb
from broker.events import Received, SessionEvent
from broker.mosquitto import Mosquitto
from broker.session import Session
from broker.topics import Role, Topics
from deploy.command.control import ask, new_request
from deploy.local.processes import Processes
from tests.deploy.dashboard.browser import browsing, dashboard

TASK = Path(__file__).parents[1] / "tests/system/softmax_task.py"
TOPICS = Topics("bench")
USERS = {
    "aggregator": Role.AGGREGATOR,
    "operator": Role.OPERATOR,
    "monitor": Role.MONITOR,
    "crowd": Role.OPERATOR,
}
WAIT_S = 300.0
SETTLED_S = 10.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Figure(NamedTuple):
    """Something measured, with the most that it may be."""

    value: float
    most: float | None = None


@dataclass
class Count:
    """Every message under `monitor/`: when it came, and how many bytes of topic and payload it has."""

    came: list[tuple[float, int]] = field(default_factory=list)

    def hear(self, event: SessionEvent) -> None:
        if isinstance(event, Received):
            size = len(event.topic) + len(event.payload)
            self.came.append((time.monotonic(), size))

    def mean(self) -> tuple[float, float]:
        """Messages and bytes a second, over all the time."""
        took = self.came[-1][0] - self.came[0][0]
        return len(self.came) / took, sum(size for _, size in self.came) / took

    def busiest(self, span_s: float) -> tuple[float, float]:
        """Messages and bytes a second, of any `span_s` seconds those with most."""
        messages = bytes_ = most_messages = most_bytes = first = 0
        for at, size in self.came:
            messages, bytes_ = messages + 1, bytes_ + size
            while self.came[first][0] <= at - span_s:
                messages, bytes_ = messages - 1, bytes_ - self.came[first][1]
                first += 1
            most_messages, most_bytes = max(most_messages, messages), max(most_bytes, bytes_)
        return most_messages / span_s, most_bytes / span_s


@contextmanager
def counted(broker: Mosquitto) -> Iterator[Count]:
    count = Count()
    everything = [(f"{TOPICS.root}/monitor/#", 1)]
    session = Session(broker.settings("monitor"), "counter", count.hear, will=None, subscriptions=everything)
    session.start()
    wait_for(lambda: session.connected)
    try:
        yield count
    finally:
        session.stop()


def started(program: str) -> int:
    """Our child whose command line has this word."""
    found = [pid for pid in children_of(os.getpid()) if program.encode() in _command(pid)]
    assert len(found) == 1, f"{len(found)} children are {program}"
    return found[0]


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def cpu_s(*pids: int) -> float:
    """Processor time of processes and of all that they started, so far."""
    return sum(_own_cpu_s(pid) + cpu_s(*children_of(pid)) for pid in pids)


def _own_cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except FileNotFoundError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11:15]) * TICK_S


@contextmanager
def federation(folder: Path, devices: int) -> Iterator[tuple[Mosquitto, Count]]:
    """Broker, aggregator and devices, in the middle of a run's first round."""
    broker = Mosquitto(folder / "broker", TOPICS, USERS)
    allow(folder / "broker" / "acl", TOPICS, "crowd")
    with broker, counted(broker) as count, Processes(folder / "logs") as processes:
        config = folder / "aggregator.toml"
        tasks = {"softmax": {"file": str(TASK)}}
        runs = str(folder / "runs")
        write_settings(config, broker.settings("aggregator"), folder=runs, tasks=tasks)
        processes.service("aggregator", "aggregator.main", "run", "--config", str(config))
        with Crowd(broker.settings("crowd"), devices):
            start = new_request(Verb.START, "softmax", {"rounds": 1000, "min_devices": devices})
            reply = ask(broker.settings("operator"), start, WAIT_S)
            assert reply.ok, reply.text
            log = folder / "logs/aggregator.log"
            wait_for(lambda: "round 1 invites" in log.read_text())
            yield broker, count


def measured(folder: Path, devices: int, seconds: float) -> dict[str, Figure]:
    """Every line of the table."""
    (folder / "page").mkdir()
    with (
        federation(folder, devices) as (broker, count),
        monitor(broker.settings("monitor")) as terminal,
        dashboard(broker.settings("monitor"), folder / "page") as url,
        browsing(folder / "profile", url) as browser,
    ):
        pids = {
            "midge monitor": terminal.pid,
            "midge dashboard": started("dashboard"),
            "(Chromium)": started("chromedriver"),
            "(aggregator)": started("aggregator.main"),
        }
        time.sleep(SETTLED_S)
        browser.until_text(f"{devices}")
        closed, drawn, shown = closed_rounds(folder), terminal.drawn_bytes, browser.text()
        began, before = time.monotonic(), {name: cpu_s(pid) for name, pid in pids.items()}
        time.sleep(seconds)
        took = time.monotonic() - began
        shares = {name: (cpu_s(pid) - before[name]) / took * 100 for name, pid in pids.items()}
        # Whoever shows nothing costs nothing.
        assert browser.text() != shown
        drawing = {
            "(rounds closed meanwhile)": Figure(closed_rounds(folder) - closed),
            "(to the terminal, kB/s)": Figure((terminal.drawn_bytes - drawn) / took / 1000),
        }
    viewers = {f"{name}, % of a core": judged(name, share) for name, share in shares.items()}
    return {**told(count), **viewers, **drawing}


def closed_rounds(folder: Path) -> int:
    return (folder / "logs/aggregator.log").read_text().count(" completed: ")


def judged(name: str, share: float) -> Figure:
    return Figure(share, None if name.startswith("(") else 25.0)


def told(count: Count) -> dict[str, Figure]:
    """What was said under `monitor/`."""
    messages, bytes_ = count.mean()
    most_messages, most_bytes = count.busiest(1.0)
    return {
        "messages/s, mean": Figure(messages, 50.0),
        "messages/s, busiest second": Figure(most_messages, 50.0),
        "kB/s, mean": Figure(bytes_ / 1000, 100.0),
        "kB/s, busiest 10 s": Figure(count.busiest(10.0)[1] / 1000, 100.0),
        "(kB/s, busiest second)": Figure(most_bytes / 1000),
        "(largest message, kB)": Figure(max(size for _, size in count.came) / 1000),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(Path(folder), given.devices, given.seconds)
    print(f"{f'{given.devices} devices':34}{'measured':>10}{'target':>10}")
    for name, (value, most) in figures.items():
        print(f"{name:34}{value:10.1f}{'' if most is None else f'{most:g}':>10}")
    missed = [name for name, (value, most) in figures.items() if most is not None and value > most]
    found = {name: round(value, 2) for name, (value, _) in figures.items()}
    print(json.dumps({"benchmark": "viewers", "devices": given.devices, **found, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
