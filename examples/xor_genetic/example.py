"""XOR on two devices with two examples each, trained without a gradient until it is solved."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from broker.control import SettingValue
from deploy.demo.shares import write_examples
from deploy.local.folder import FleetFolder
from deploy.local.screen import Screen
from deploy.results.plots import Panel, curve, plot_panels
from edge_agent.data.examples import Examples
from edge_agent.data.settings import NpzSettings
from edge_agent.runtimes.registry import available
from examples.harness import Example, Order, Result, history_of, local_fleet
from host.errors import ConfigError

TASK = "xor-genetic"
ROUNDS = 60
SETTINGS: dict[str, SettingValue] = {
    "epochs": 50,
    "min_devices": 2,
    "quorum": 2,
    "validation_fraction": 0.0,
    "federated_evaluation": False,
    "stop_when": "accuracy >= 1",
}
# No device has what it takes: to each, the second input alone tells the answer, and differently.
SHARES = {
    "pi-1": Examples(np.array([[0, 1], [0, 0]], np.float32), np.array([1, 0], np.int32)),
    "pi-2": Examples(np.array([[1, 0], [1, 1]], np.float32), np.array([1, 0], np.int32)),
}


def play(order: Order, screen: Screen) -> Result:
    """Train until all four inputs come out right; raises MidgeError."""
    if "genetic" not in available():
        raise ConfigError("its runtime is not installed here: pip install -e examples/xor_genetic/runtime")
    began, folder = time.monotonic(), FleetFolder(order.folder)
    folder.root.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("task.py"), folder.root / "task.py")
    devices = {}
    for name, examples in SHARES.items():
        path = folder.root / f"{name}.npz"
        write_examples(path, examples)
        devices[name] = (NpzSettings(path=path), f"{len(examples.y)} examples")
    with local_fleet(folder, TASK, SETTINGS, devices, screen) as fleet:
        fleet.go_online()
        run = fleet.run(TASK, {"rounds": order.rounds or ROUNDS, "seed": order.seed})
    screen.say(f"finished: {run.reason}")
    history = history_of(folder, run.run)
    return {
        "seed": order.seed,
        "accuracy": curve(history, "accuracy"),
        "updates": sum(entry["accepted"] for entry in history),
        "reason": run.reason,
        "seconds": time.monotonic() - began,
    }


def report(results: Sequence[Result], pictures: Path) -> str:
    """Updates until it was solved, by seed."""
    lines = {f"seed {result['seed']}": result["accuracy"] for result in results}
    plot_panels(pictures / "curves.png", [Panel("accuracy", lines)])
    solved = [result["updates"] for result in results if result["accuracy"][-1][1] == 1]
    seconds = np.mean([result["seconds"] for result in results])
    rows = [f"| {result['seed']} | {result['updates']} | {result['reason']} |" for result in results]
    median = f", median {np.median(solved):g}" if solved else ""
    return "\n".join(
        [
            f"Solved for {len(solved)} of {len(results)} seeds{median} updates, two a round;",
            f"{seconds:.0f} s a seed.",
            "",
            "| seed | updates | the run ended with |",
            "|---|---|---|",
            *rows,
        ]
    )


EXAMPLE = Example(play, report)
