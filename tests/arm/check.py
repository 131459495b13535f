"""`make arm-check`: on an emulated Cortex-A53 wheelhouses install, and train a CNN as Keras here does.

`python tests/arm/check.py FOLDER`, after fetch.sh has filled FOLDER, and `midge wheelhouse`
FOLDER/wheelhouses. Exit status 1 when weights differ.
"""

import json
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
from deploy.card.wheelhouse import PYTHONS, Target
from edge_agent.data.examples import Examples
from edge_agent.runtimes.keras import KerasRuntime
from host.children import ask_once
from tests.arm.emulated import Device

HERE = Path(__file__).parent
STEPS, BATCH, EXAMPLES = 10, 32, 400
LIMIT = 1e-4
EXPORT_S = 300.0


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


def train_there(device: Device, wheelhouses: Path, place: Path) -> dict[str, Any]:
    """Install and train on the emulated processor; device.py leaves its theta in `place`."""
    version = device.install(wheelhouses)
    # -P: what is imported shall be what was installed.
    said = device.run(version, "-P", HERE / "device.py", place, STEPS, BATCH)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found


def main() -> int:
    """Print figures; 0 when the weights agree."""
    tools = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory(prefix="midge-arm-") as name:
        folder = Path(name)
        litert, keras = export(folder, "export", "litert"), export(folder, "build", "keras")
        examples = digits()
        np.savez(litert / "data.npz", x=examples.x, y=examples.y)
        before, here = _theta(litert / THETA_FILE), train_here(keras, examples)
        same = True
        for python in PYTHONS:
            device = Device(tools, Target(python, "aarch64"), folder / python)
            about = train_there(device, tools / "wheelhouses", litert)
            same &= compare(about, before, here, _theta(litert / "trained.f32"))
    return 0 if same else 1


def compare(about: dict[str, Any], before: Theta, here: Theta, there: Theta) -> bool:
    """Say what a device found; whether its weights are Keras'."""
    imports = ", ".join(f"{name} {took}" for name, took in about["import_s"].items())
    took = about["train_s"]
    _say(f"{about['machine']} (an emulated Cortex-A53), Python {about['python']}, midge {about['midge']}")
    _say(f"  imports, s: {imports}")
    _say(f"  MNIST CNN, {STEPS} steps of {BATCH}: {took['steps']} s, after loading in {took['load']} s")
    change, difference = float(np.abs(here - before).max()), float(np.abs(here - there).max())
    part = difference / change
    _say(f"  theta: largest change {change:.2e}; {difference:.1e} from Keras here, {part:.1e} of the change")
    _say(f"  {'the same' if part <= LIMIT else 'NOT the same'}, as {LIMIT:.0e} of the change is allowed")
    return part <= LIMIT


def _theta(path: Path) -> Theta:
    return np.fromfile(path, THETA_DTYPE)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
