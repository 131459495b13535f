"""What a device saves by LiteRT: import, first step, speed and memory beside the Keras runtime's.

Prints a table and a JSON line. Times are CPU time, which other work on the machine disturbs least (both
runtimes train on one thread); both are measured in one run, so compare the ratios.
The model is the MNIST CNN (Conv2D 8x5, pool, Conv2D 16x3, Dense 10) with batches of 32, on random data.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

from broker.contract import DataContract
from broker.messages import TrainingSettings
from broker.program import Program
from host.children import Child

EXAMPLES = 2048
BATCH = 32
STEPS = 500
WAIT_S = 300.0
RUNTIMES = {"litert": "edge_agent.runtimes.litert", "keras": "edge_agent.runtimes.keras"}
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def write_programs(folder: Path) -> str:
    """One program a runtime, theta and data; gives the layout's digest. Run in a process of its own."""
    from aggregator.keras.determinism import be_deterministic, keras  # noqa: PLC0415
    from aggregator.keras.litert.export import export_litert  # noqa: PLC0415
    from aggregator.keras.program import export  # noqa: PLC0415
    from aggregator.keras.weights import layout_of, theta_of  # noqa: PLC0415

    be_deterministic()
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 5, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    layout = layout_of(model)
    body = export_litert(model, batch=BATCH).to_json()
    (folder / "litert").write_bytes(Program(layout=layout, runtime="litert", body=body).to_bytes())
    (folder / "keras").write_bytes(export(model).to_bytes())
    (folder / "theta").write_bytes(theta_of(model).tobytes())
    random = np.random.default_rng(0)
    x = random.random((EXAMPLES, 28, 28, 1), np.float32)
    np.savez(folder / "data.npz", x=x, y=random.integers(0, 10, EXAMPLES).astype(np.int32))
    return layout.digest


def import_cpu_s(module: str) -> float:
    """CPU seconds of a fresh interpreter's import, least of three."""
    program = f"import time; began = time.process_time(); import {module}; print(time.process_time() - began)"
    command = [sys.executable, "-c", program]
    return min(float(subprocess.check_output(command, stderr=subprocess.DEVNULL)) for _ in range(3))


def measure(folder: Path, layout: str, runtime: str) -> dict[str, float]:
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

    one, two, many = train(1), train(1), train(1 + STEPS)
    found = {
        "import_cpu_s": import_cpu_s(RUNTIMES[runtime]),
        "first_step_cpu_s": one,
        "cpu_ms_per_step": 1000 * (many - two - (two - one)) / STEPS,
        "peak_rss_mb": memory_mb(child.pid, "VmHWM"),
        # What trainer_memory_bytes limits, and what it does not.
        "allocated_mb": memory_mb(child.pid, "VmData"),
        "address_space_mb": memory_mb(child.pid, "VmPeak"),
    }
    child.kill()
    return {name: round(value, 3) for name, value in found.items()}


def request(folder: Path, layout: str, runtime: str, steps: int) -> dict[str, Any]:
    settings = TrainingSettings(epochs=None, steps=steps, batch_size=BATCH, validation_fraction=0)
    contract = DataContract(shape=(28, 28, 1), classes=tuple("0123456789"))
    return {
        "verb": "train",
        "data": {"kind": "npz", "path": str(folder / "data.npz")},
        "runtime": runtime,
        "program": str(folder / runtime),
        "theta": str(folder / "theta"),
        "layout": layout,
        "contract": contract.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "update": str(folder / "update"),
        "state": str(folder / "state"),
    }


def cpu_s(pid: int) -> float:
    """User and system time of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def memory_mb(pid: int, field: str) -> float:
    """One of the sizes in a process's status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))


def show(results: dict[str, dict[str, float]]) -> None:
    print(f"{'':18}{'litert':>10}{'keras':>10}{'keras/litert':>14}")
    for name, ours in results["litert"].items():
        theirs = results["keras"][name]
        print(f"{name:18}{ours:10.3f}{theirs:10.3f}{theirs / ours:14.2f}")
    print(json.dumps({"benchmark": "light_agent", **results}))


def main() -> None:
    if len(sys.argv) > 1:
        print(write_programs(Path(sys.argv[1])))
        return
    with tempfile.TemporaryDirectory() as name:
        written = subprocess.check_output(
            [sys.executable, __file__, name], stderr=subprocess.DEVNULL, text=True
        )
        layout = written.split()[-1]
        show({runtime: measure(Path(name), layout, runtime) for runtime in RUNTIMES})


if __name__ == "__main__":
    main()
