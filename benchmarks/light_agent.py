"""What a device saves by LiteRT: import, first step, speed and memory beside the Keras runtime's.

Prints a table with the targets of the LiteRT agent and a JSON line; exits with 1 when a target is missed.
Times are CPU time, which other work on the machine disturbs least (both runtimes train on one thread);
memory is resident, and the most that the processes ever had: shared pages count in each of them.
All is measured in one run, so compare the ratios.
The model is the MNIST CNN (Conv2D 8x5, pool, Conv2D 16x3, Dense 10) with batches of 32, on random images.

`--venv` also installs the wheel into a fresh environment and says what each distribution takes: it downloads.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

from aggregator.evaluator import MODULE
from aggregator.records import JSON
from aggregator.toml import to_toml
from benchmarks.installed_size import installed_sizes, show_sizes
from broker.contract import DataContract
from broker.control import SettingValue, Verb
from broker.messages import TrainingSettings
from broker.mosquitto import Mosquitto
from broker.settings import BrokerSettings
from broker.topics import Role, Topics
from deploy.command.control import ask, new_request
from deploy.local.processes import Processes
from host.children import Child, ask_once

TASK = Path(__file__).parents[1] / "tests/arm/mnist_cnn.py"
EXAMPLES = 6000  # of MNIST, if ten devices share it
BATCH = 32
STEPS = 500
WAIT_S = 300.0
SETTLED_S = 3.0
RUNTIMES = ("litert", "keras")
TARGETS = {
    "import agent, CPU s": 0.5,
    "first step, CPU s": 1.0,
    "idle agent, MB": 60.0,
    "agent + trainer, MB": 130.0,
    "environment, MB": 195.0,
}
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
USERS = {"aggregator": Role.AGGREGATOR, "operator": Role.OPERATOR, "pi": Role.DEVICE}
TOPICS = Topics("bench")

Row = dict[str, float]


def write_programs(folder: Path) -> str:
    """One program a runtime, theta and data; gives the layout's digest."""
    digest = ""
    for runtime in RUNTIMES:
        place = folder / runtime
        place.mkdir()
        request = {
            "task": str(TASK),
            "folder": str(place),
            "seed": 0,
            "runtime": runtime,
            "batch_size": BATCH,
        }
        answer = ask_once(MODULE, {"verb": "build", **request}, WAIT_S)
        assert answer["event"] == "built", answer
        digest = answer["layout"]
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (EXAMPLES, 28, 28, 1)).astype(np.uint8)
    np.savez(folder / "data.npz", x=x, y=random.integers(0, 10, EXAMPLES).astype(np.int32))
    return digest


def import_cpu_s(*modules: str) -> float:
    """CPU seconds of a fresh interpreter's import, least of three."""
    program = (
        f"import time; began = time.process_time(); import {', '.join(modules)}\n"
        "print(time.process_time() - began)"
    )
    command = [sys.executable, "-c", program]
    return min(float(subprocess.check_output(command, stderr=subprocess.DEVNULL)) for _ in range(3))


def measure_trainer(folder: Path, layout: str, runtime: str) -> Row:
    """One step in a fresh trainer child, then many in the same one."""
    answers: Queue[dict[str, Any]] = Queue()
    child = Child(
        "edge_agent.trainer", on_message=answers.put, on_exit=lambda how: answers.put({"event": how})
    )

    def train(steps: int) -> float:
        child.send(request(folder, layout, runtime, steps))
        while (answer := answers.get(timeout=WAIT_S))["event"] in {"progress", "measured"}:
            pass
        assert answer["event"] == "trained", answer
        return cpu_s(child.pid)

    try:
        one, two, many = train(1), train(1), train(1 + STEPS)
        sizes = {
            # What trainer_memory_bytes limits, and what it does not.
            "trainer allocated, MB": memory_mb(child.pid, "VmData"),
            "trainer address space, MB": memory_mb(child.pid, "VmPeak"),
        }
    finally:
        child.kill()
    return {
        "first step, CPU s": one,
        "step, CPU ms": 1000 * (many - two - (two - one)) / STEPS,
        **sizes,
    }


def request(folder: Path, layout: str, runtime: str, steps: int) -> dict[str, Any]:
    settings = TrainingSettings(epochs=None, steps=steps, batch_size=BATCH, validation_fraction=0)
    contract = DataContract(shape=(28, 28, 1), dtype="uint8", classes=tuple("0123456789"))
    return {
        "verb": "train",
        "data": {"kind": "npz", "path": str(folder / "data.npz")},
        "runtime": runtime,
        "program": str(folder / runtime / "program.json"),
        "theta": str(folder / runtime / "theta.f32"),
        "layout": layout,
        "contract": contract.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "update": str(folder / "update"),
        "state": str(folder / "state"),
    }


def measure_agent(folder: Path, runtime: str) -> Row:
    """A real agent on a real broker, before its first round and after it."""
    place = folder / f"federation-{runtime}"
    with Mosquitto(place / "broker", TOPICS, USERS) as broker, Processes(place / "logs") as processes:
        aggregator = place / "aggregator.toml"
        cnn = {"file": str(TASK)}
        write_settings(
            aggregator, broker.settings("aggregator"), folder=str(place / "runs"), tasks={"cnn": cnn}
        )
        processes.service("aggregator", "aggregator.main", "run", "--config", str(aggregator))
        data = {"kind": "npz", "path": str(folder / "data.npz")}
        agent = place / "agent.toml"
        write_settings(
            agent, broker.settings("pi"), device="pi", state_folder=str(place / "state"), data=data
        )
        with running_agent(agent, place / "agent.log") as pid:
            wait_for(lambda: "connected" in (place / "agent.log").read_text())
            time.sleep(SETTLED_S)
            idle = memory_mb(pid, "VmRSS")
            settings: dict[str, SettingValue] = {
                "rounds": 1,
                "runtime": runtime,
                "batch_size": BATCH,
                "epochs": 3,
            }
            reply = ask(broker.settings("operator"), new_request(Verb.START, "cnn", settings), WAIT_S)
            assert reply.ok, reply.text
            wait_for(lambda: list(place.glob("runs/runs/*/model.keras")))
            (trainer,) = children_of(pid)
            both = memory_mb(pid, "VmHWM") + memory_mb(trainer, "VmHWM")
    return {"idle agent, MB": idle, "agent + trainer, MB": both}


def write_settings(path: Path, broker: BrokerSettings, **settings: JSON) -> None:
    table = broker.model_dump(mode="json", exclude_defaults=True)
    path.write_text(to_toml({**settings, "broker": table}))


@contextlib.contextmanager
def running_agent(config: Path, log: Path, **environment: str) -> Iterator[int]:
    command = [sys.executable, "-m", "edge_agent.main", "run", "--config", str(config)]
    every = {**os.environ, **environment}
    with log.open("wb") as file, subprocess.Popen(command, stderr=file, env=every) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def wait_for(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def children_of(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for children in threads for child in children.read_text().split()]


def cpu_s(pid: int) -> float:
    """User and system time of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def memory_mb(pid: int, field: str) -> float:
    """One of the sizes in a process's status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))


def measure(folder: Path, layout: str, runtime: str) -> Row:
    imports = {
        "import agent, CPU s": import_cpu_s("edge_agent.main", "edge_agent.service"),
        "import runtime, CPU s": import_cpu_s(f"edge_agent.runtimes.{runtime}"),
    }
    found = {**imports, **measure_trainer(folder, layout, runtime), **measure_agent(folder, runtime)}
    return {name: round(value, 3) for name, value in found.items()}


def show(results: dict[str, Row]) -> list[str]:
    """Print the table; gives the names of missed targets."""
    print(f"{'':24}{'litert':>10}{'keras':>10}{'keras/litert':>14}{'target':>10}")
    missed = []
    for name, ours in results["litert"].items():
        theirs, target = results["keras"].get(name), TARGETS.get(name)
        beside = f"{theirs:10.3f}{theirs / ours:14.2f}" if theirs else " " * 24
        verdict = "" if target is None else f"{target:10.1f}  {'met' if ours <= target else 'MISSED'}"
        print(f"{name:24}{ours:10.3f}{beside}{verdict}")
        if target is not None and ours > target:
            missed.append(name)
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--venv", action="store_true", help="also measure an installed environment; downloads"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layout = write_programs(folder)
        results = {runtime: measure(folder, layout, runtime) for runtime in RUNTIMES}
        if given.venv:
            sizes = installed_sizes(folder / "venv")
            show_sizes(sizes)
            results["litert"]["environment, MB"] = round(sum(size.all_bytes for size in sizes) / 1e6, 1)
    missed = show(results)
    print(json.dumps({"benchmark": "light_agent", **results, "targets": TARGETS, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
