"""What an agent writes to its card in a day: idle, and with 24 rounds.

A real agent with its trainer, a real aggregator and Mosquitto. Bytes are what the kernel counts as caused for
a disk by agent and trainer (write_bytes of /proc/PID/io: pages of 4 KiB); syncs are calls of fsync and
fdatasync. Logs go elsewhere, as to the journal. Prints a table and a JSON line; exits with 1 when a target is
missed. The model is the MNIST CNN, trained with LiteRT on random images.

`--folder` names a place on a real disk: in memory the kernel counts nothing.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.light_agent import TASK, TOPICS, USERS, children_of, running_agent, wait_for, write_settings
from broker.control import SettingValue, Verb
from broker.mosquitto import Mosquitto
from deploy.command.control import ask, new_request
from deploy.local.processes import Processes

EXAMPLES = 200
IDLE_S = 60.0
SETTLED_S = 5.0
DAY_S = 86400.0
ROUNDS_A_DAY = 24
# What the first rounds do once is no part of a day: the program is fetched, the speed measured.
FIRST, LAST = 2, 8
WAIT_S = 300.0
PAGE_BYTES = 4096
SNAPSHOT_PAGES = 8
# Weights, update and three snapshots, each with its folder.
ROUND_SYNCS = 10
MEMORY = Path("/dev/shm")  # noqa: S108 - what is there is on no disk
COUNTER = """
import os
_file = os.open({path!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def _counted(sync):
    def call(descriptor):
        os.write(_file, b".")
        return sync(descriptor)
    return call
os.fsync, os.fdatasync = _counted(os.fsync), _counted(os.fdatasync)
"""


class Written(NamedTuple):
    """So far, or in between."""

    bytes: float
    syncs: float

    def since(self, before: "Written") -> "Written":
        return Written(self.bytes - before.bytes, self.syncs - before.syncs)

    def times(self, factor: float) -> "Written":
        return Written(round(self.bytes * factor), round(self.syncs * factor, 1))


class Agent:
    """A running agent, and where its syncs are counted."""

    def __init__(self, pid: int, counter: Path) -> None:
        self._pid, self._counter = pid, counter

    def written(self) -> Written:
        pids = [self._pid, *children_of(self._pid)]
        return Written(sum(map(written_bytes, pids)), self._counter.stat().st_size)


def written_bytes(pid: int) -> int:
    """Caused by this process, and by its children that have ended."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def check_that_it_counts(folder: Path) -> None:
    before = written_bytes(os.getpid())
    (folder / "probe").write_bytes(bytes(1 << 20))
    if written_bytes(os.getpid()) - before < 1 << 20:
        raise SystemExit(f"{folder} is on no disk that the kernel counts: name another with --folder")


@contextmanager
def agent(place: Path, logs: Path, broker: Mosquitto) -> Iterator[Agent]:
    (logs / "sitecustomize.py").write_text(COUNTER.format(path=str(logs / "syncs")))
    config, log = place / "agent.toml", logs / "agent.log"
    data = {"kind": "npz", "path": str(place / "data.npz")}
    write_settings(config, broker.settings("pi"), device="pi", state_folder=str(place / "state"), data=data)
    search = os.pathsep.join([str(logs), str(Path(__file__).parents[1])])
    with running_agent(config, log, PYTHONPATH=search, PYTHONDONTWRITEBYTECODE="1") as pid:
        wait_for(lambda: "connected" in log.read_text())
        yield Agent(pid, logs / "syncs")


def measure_rounds(place: Path, broker: Mosquitto, here: Agent) -> Written:
    """What a round costs, in the middle of a run."""
    settings: dict[str, SettingValue] = {"rounds": LAST}
    reply = ask(broker.settings("operator"), new_request(Verb.START, "cnn", settings), WAIT_S)
    assert reply.ok, reply.text
    run = place / f"runs/runs/{reply.run}"
    wait_for((run / f"models/round-{FIRST:04}.keras").exists)
    before = here.written()
    wait_for((run / "model.keras").exists)
    time.sleep(SETTLED_S)
    return here.written().since(before).times(1 / (LAST - FIRST))


def measure(place: Path, logs: Path) -> tuple[dict[str, Written], int]:
    """Per day, and the size of the model in bytes."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (EXAMPLES, 28, 28, 1)).astype(np.uint8)
    np.savez(place / "data.npz", x=x, y=random.integers(0, 10, EXAMPLES).astype(np.int32))
    with Mosquitto(logs / "broker", TOPICS, USERS) as broker, Processes(logs) as processes:
        tasks = {"cnn": {"file": str(TASK)}}
        config = place / "aggregator.toml"
        write_settings(config, broker.settings("aggregator"), folder=str(place / "runs"), tasks=tasks)
        processes.service("aggregator", "aggregator.main", "run", "--config", str(config))
        with agent(place, logs, broker) as here:
            time.sleep(SETTLED_S)
            before = here.written()
            time.sleep(IDLE_S)
            idle = here.written().since(before).times(DAY_S / IDLE_S)
            found = {"idle": idle, "24 rounds": measure_rounds(place, broker, here).times(ROUNDS_A_DAY)}
        (theta,) = place.glob("runs/runs/*/theta/round-0001.f32")
        return found, theta.stat().st_size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="on a real disk")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory(dir=folder) as place, tempfile.TemporaryDirectory(dir=MEMORY) as logs:
        check_that_it_counts(Path(place))
        found, theta = measure(Path(place), Path(logs))
    # Weights down and an update up, in whole pages, and a few pages for three snapshots.
    pages = 2 * -(-theta // PAGE_BYTES) + SNAPSHOT_PAGES
    targets = {
        "idle": Written(0, 0),
        "24 rounds": Written(pages * PAGE_BYTES, ROUND_SYNCS).times(ROUNDS_A_DAY),
    }
    print(
        f"a model of {theta:,} bytes{'':8}{'bytes a day':>14}{'target':>14}{'syncs a day':>14}{'target':>10}"
    )
    missed = []
    for name, written in found.items():
        most = targets[name]
        print(f"{name:32}{written.bytes:14,.0f}{most.bytes:14,.0f}{written.syncs:14,.0f}{most.syncs:10,.0f}")
        if written.bytes > most.bytes or written.syncs > most.syncs:
            missed.append(name)
    figures = {name: written._asdict() for name, written in found.items()}
    print(json.dumps({"benchmark": "card_writes", "theta_bytes": theta, **figures, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
