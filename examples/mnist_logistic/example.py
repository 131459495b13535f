"""Ten devices with a tenth of MNIST each: a hundred rounds of four steps, or one round of four epochs."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aggregator.ledger import Ledger
from broker.control import SettingValue
from broker.monitor import means
from deploy.demo.lessons import mnist
from deploy.demo.shares import write_examples
from deploy.local.folder import FleetFolder
from deploy.local.screen import Screen
from deploy.results.plots import Panel, curve, plot_panels
from deploy.simulator.training.partition import chance_of, iid
from edge_agent.data.examples import Examples
from edge_agent.data.settings import NpzSettings
from examples.harness import Example, Order, Result, history_of, local_fleet, spread

TASK = "mnist-logistic"
DEVICES = 10
SETTINGS: dict[str, SettingValue] = {
    "runtime": "litert",
    "batch_size": 32,
    "min_devices": DEVICES,
    "quorum": DEVICES,
}
STEPS: dict[str, SettingValue] = {"rounds": 100, "steps": 4}
EPOCHS: dict[str, SettingValue] = {"rounds": 1, "epochs": 4}


def play(order: Order, screen: Screen) -> Result:
    """Both runs, in one federation; raises MidgeError."""
    began, folder = time.monotonic(), FleetFolder(order.folder)
    shares = _share_out(order, folder.root)
    devices = {name: (NpzSettings(path=path), f"{count} examples") for name, (path, count) in shares.items()}
    with local_fleet(folder, TASK, SETTINGS, devices, screen) as fleet:
        fleet.go_online()
        rounds = order.rounds or STEPS["rounds"]
        screen.say(f"{rounds} rounds of {STEPS['steps']} steps:")
        steps = fleet.run(TASK, {**STEPS, "rounds": rounds, "seed": order.seed}).run
        screen.say(f"one round of {EPOCHS['epochs']} epochs:")
        epochs = fleet.run(TASK, {**EPOCHS, "seed": order.seed}).run
    return {
        "seed": order.seed,
        "steps": curve(history_of(folder, steps), "accuracy"),
        "epochs": curve(history_of(folder, epochs), "accuracy"),
        "loss": _loss_by_device(folder, steps),
        "seconds": time.monotonic() - began,
    }


def report(results: Sequence[Result], pictures: Path) -> str:
    """What both ways reach, and the long one on its way; the picture is of the first seed."""
    first = results[0]
    one_round = {"one round of 4 epochs": first["epochs"][-1][1]}
    accuracy = Panel("accuracy", {"4 steps a round": first["steps"]}, one_round)
    plot_panels(pictures / "curves.png", [accuracy, Panel("loss", first["loss"])])
    last = len(first["steps"])
    shown = [number for number in (1, 10, 50, last) if number <= last]
    seconds = np.mean([result["seconds"] for result in results])
    rows = [
        f"| 4 steps a round | {number} | {spread([result['steps'][number - 1][1] for result in results])} |"
        for number in dict.fromkeys(shown)
    ]
    epochs = spread([result["epochs"][-1][1] for result in results])
    return "\n".join(
        [
            f"Right on MNIST's 10000 test images, mean of {len(results)} seeds, ± standard deviation",
            f"(range); {seconds:.0f} s a seed for both runs.",
            "",
            "| way | round | accuracy |",
            "|---|---|---|",
            *rows,
            f"| 4 epochs a round | 1 | {epochs} |",
        ]
    )


def _share_out(order: Order, root: Path) -> dict[str, tuple[Path, int]]:
    """Deal the images by chance; each device's file, and how many are in it."""
    pool = mnist(order.needed_data("the four IDX files of MNIST")).pool(order.seed)
    (root / "data").mkdir(parents=True)
    shutil.copyfile(Path(__file__).with_name("task.py"), root / "task.py")
    write_examples(root / "test.npz", pool.test)
    shares = {}
    for number, rows in enumerate(iid(len(pool.training.y), DEVICES, chance_of(order.seed))):
        name = f"pi-{number}"
        path = root / "data" / f"{name}.npz"
        write_examples(path, Examples(pool.training.x[rows], pool.training.y[rows]))
        shares[name] = (path, len(rows))
    return shares


def _loss_by_device(folder: FleetFolder, run: str) -> dict[str, list[tuple[int, float]]]:
    """Loss of each round's new model on each device's own validation examples, from the ledger."""
    lines: dict[str, list[tuple[int, float]]] = {}
    ledger = Ledger(folder.aggregator / "ledger.sqlite")
    try:
        for row in ledger.rounds(run):
            for part in ledger.participants(run, row.round):
                measured = means(part.reported)
                if "loss" in measured:
                    lines.setdefault(part.device, []).append((row.round, measured["loss"]))
    finally:
        ledger.close()
    return lines


EXAMPLE = Example(play, report)
