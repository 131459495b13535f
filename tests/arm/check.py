"""`make arm-check`: an emulated Cortex-A53 trains the MNIST CNN, and Keras here finds the same weights.

`python tests/arm/check.py FOLDER`, after fetch.sh has filled FOLDER. Exit status 1 when they differ.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.evaluator import MODULE
from aggregator.requests import PROGRAM_FILE, THETA_FILE
from broker.layout import THETA_DTYPE, Theta
from broker.messages import TrainingSettings
from broker.program import Program
from edge_agent.data.examples import Examples
from edge_agent.runtimes.keras import KerasRuntime
from host.children import ask_once

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STEPS, BATCH, EXAMPLES = 10, 32, 400
LIMIT = 1e-4
EXPORT_S, EMULATED_S = 300.0, 1800.0


def export(folder: Path, verb: str, runtime: str) -> Path:
    """Have the task built in a process of its own; gives where its files are."""
    place = folder / runtime
    place.mkdir()
    request: dict[str, Any] = {"task": str(HERE / "mnist_cnn.py"), "folder": str(place), "seed": 0}
    named = {"runtime": runtime} if verb == "build" else {}
    answer = ask_once(MODULE, {"verb": verb, **request, **named, "batch_size": BATCH}, EXPORT_S)
    if answer["event"] == "failed":
        raise SystemExit(f"the task could not be exported: {answer['detail']}")
    return place


def digits() -> Examples:
    """Noise with a bright bar, whose place tells the class."""
    chance = np.random.default_rng(0)
    y = chance.integers(0, 10, EXAMPLES).astype(np.int32)
    x = chance.integers(0, 100, (EXAMPLES, 28, 28, 1)).astype(np.uint8)
    for image, label in zip(x, y, strict=True):
        image[2 * label + 4 : 2 * label + 7] += 120
    return Examples(x, y)


def train_here(place: Path, examples: Examples) -> Theta:
    """What Keras makes of it: float32[P]."""
    program = Program.from_bytes((place / PROGRAM_FILE).read_bytes())
    runtime = KerasRuntime()
    runtime.load(program.body.encode(), program.layout)
    settings = TrainingSettings(epochs=None, steps=STEPS, batch_size=BATCH)
    return runtime.train(_theta(place / THETA_FILE), examples, settings, (), lambda _: None).theta


def train_there(tools: Path, place: Path) -> dict[str, Any]:
    """Run device.py on the emulated processor; it leaves its theta in `place`."""
    emulator = [tools / "emulator/usr/bin/qemu-aarch64", "-cpu", "cortex-a53", "-L", tools / "system"]
    device = [tools / "system/usr/bin/python3.13", HERE / "device.py", place, tools / "requirements.txt"]
    search = {"PYTHONPATH": os.pathsep.join(map(str, (tools / "wheels", ROOT)))}
    ended = subprocess.run(
        [*map(str, [*emulator, *device, STEPS, BATCH])],
        env={**os.environ, **search, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=EMULATED_S,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"{ended.stderr}the emulated device ended with status {ended.returncode}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Print figures; 0 when the weights agree."""
    tools = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory(prefix="midge-arm-") as name:
        litert, keras = export(Path(name), "export", "litert"), export(Path(name), "build", "keras")
        examples = digits()
        np.savez(litert / "data.npz", x=examples.x, y=examples.y)
        about = train_there(tools, litert)
        before, there = _theta(litert / THETA_FILE), _theta(litert / "trained.f32")
        here = train_here(keras, examples)
    imports = ", ".join(f"{name} {took}" for name, took in about["import_s"].items())
    took = about["train_s"]
    _say(f"{about['machine']} (an emulated Cortex-A53), Python {about['python']}")
    _say(f"imports, s: {imports}")
    _say(f"MNIST CNN, {STEPS} steps of {BATCH}: {took['steps']} s, after loading in {took['load']} s")
    change, difference = float(np.abs(here - before).max()), float(np.abs(here - there).max())
    part = difference / change
    _say(f"theta: largest change {change:.2e}; {difference:.1e} from Keras here, {part:.1e} of the change")
    _say(f"{'the same' if part <= LIMIT else 'NOT the same'}, as {LIMIT:.0e} of the change is allowed")
    return 0 if part <= LIMIT else 1


def _theta(path: Path) -> Theta:
    return np.fromfile(path, THETA_DTYPE)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
