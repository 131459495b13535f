"""What the emulated device does: import what an agent needs, train, and say what it took.

`python device.py FOLDER STEPS BATCH`, where FOLDER has program.json, theta.f32 and data.npz; it leaves
trained.f32 there. On stdout a line of JSON.
"""

import importlib
import json
import platform
import re
import sys
import time
from importlib.metadata import requires, version
from pathlib import Path

# By what is required, a module that loads its native part.
MODULES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "cryptography": "cryptography.hazmat.primitives.asymmetric.ed25519",
    "msgpack": "msgpack._cmsgpack",
    "numpy": "numpy",
    "paho-mqtt": "paho.mqtt.client",
    "pillow": "PIL._imaging",
    "pydantic": "pydantic",
    "pydantic-settings": "pydantic_settings",
}


def base_requirements() -> list[str]:
    """Names of what the installed midge needs without its extras."""
    lines = requires("midge") or []
    return [re.split(r"[^\w-]", line)[0] for line in lines if "extra ==" not in line]


def import_all() -> dict[str, float]:
    """Seconds that each requirement took; raises KeyError for one without a module in the table above."""
    took = {}
    for name in base_requirements():
        began = time.perf_counter()
        importlib.import_module(MODULES[name])
        took[name] = round(time.perf_counter() - began, 1)
    return took


def train(folder: Path, steps: int, batch: int) -> dict[str, float]:
    """Train as an agent's trainer does."""
    import numpy as np  # noqa: PLC0415  its import is measured

    from broker.layout import THETA_DTYPE  # noqa: PLC0415
    from broker.messages import TrainingSettings  # noqa: PLC0415
    from broker.program import Program  # noqa: PLC0415
    from edge_agent.data.examples import Examples  # noqa: PLC0415
    from edge_agent.runtimes.litert import LiteRTRuntime  # noqa: PLC0415

    program = Program.from_bytes((folder / "program.json").read_bytes())
    with np.load(folder / "data.npz") as data:
        examples = Examples(data["x"], data["y"])
    runtime, began = LiteRTRuntime(), time.perf_counter()
    runtime.load(program.body.encode(), program.layout)
    loaded = time.perf_counter()
    settings = TrainingSettings(epochs=None, steps=steps, batch_size=batch)
    theta = np.fromfile(folder / "theta.f32", THETA_DTYPE)
    trained = runtime.train(theta, examples, settings, (), lambda _: None)
    trained.theta.tofile(folder / "trained.f32")
    return {"load": round(loaded - began, 2), "steps": round(time.perf_counter() - loaded, 2)}


def main() -> None:
    """Write a line of JSON."""
    folder, steps, batch = sys.argv[1:]
    took = import_all()
    trained = train(Path(folder), int(steps), int(batch))
    about = {"machine": platform.machine(), "python": platform.python_version(), "midge": version("midge")}
    sys.stdout.write(json.dumps({**about, "import_s": took, "train_s": trained}) + "\n")


if __name__ == "__main__":
    main()
