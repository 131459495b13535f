"""Three people's letters in folders of images: each fold of five is held out once, by the seed."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from broker.contract import DataContract
from broker.control import SettingValue
from deploy.demo.shares import write_examples
from deploy.local.fleet import LocalFleet
from deploy.local.folder import FleetFolder
from deploy.local.processes import Job
from deploy.local.screen import Screen
from deploy.local.verdict import confusion_of
from deploy.results.confusion import accuracy
from deploy.results.plots import Panel, curve, plot_confusion, plot_panels
from edge_agent.data.settings import ImageFolderSettings
from edge_agent.data.source import load
from examples.harness import Example, Order, Result, history_of, local_fleet, spread
from host.errors import DataError

TASK = "letters"
CLASSES = tuple("abcdefghij")
FOLDS = 5
# The folds are the same for every seed: together they hold each image out once.
FOLD_STREAM = 0
SETTINGS: dict[str, SettingValue] = {
    "runtime": "litert",
    "batch_size": 32,
    "optimizer_state": "keep",
    "validation_fraction": 0.0,
    "federated_evaluation": False,
}
ROUNDS = 6


def play(order: Order, screen: Screen) -> Result:
    """Train without one fold, and name a letter of it; raises MidgeError."""
    began, folder = time.monotonic(), FleetFolder(order.folder)
    people = _people(order.needed_data("a folder of letters for each person"))
    counts = {person.name: _deal(person, order.seed % FOLDS, folder.root) for person in people}
    _write_task(folder.root)
    devices = {
        name: (ImageFolderSettings(path=folder.root / "data" / name), f"{count} images")
        for name, count in counts.items()
    }
    settings: dict[str, SettingValue] = {**SETTINGS, "min_devices": len(devices), "quorum": len(devices)}
    with local_fleet(folder, TASK, settings, devices, screen) as fleet:
        fleet.go_online()
        run = fleet.run(TASK, {"rounds": order.rounds or ROUNDS, "seed": order.seed}).run
        predicting = _predict(fleet, run)
        matrix = confusion_of(fleet, run, folder.root / "test.npz")
        predicted = _predicted(fleet, predicting, screen)
    history = history_of(folder, run)
    return {
        "seed": order.seed,
        "accuracy": curve(history, "accuracy"),
        "loss": curve(history, "loss"),
        "confusion": matrix.tolist(),
        "predicted": predicted,
        "seconds": time.monotonic() - began,
    }


def report(results: Sequence[Result], pictures: Path) -> str:
    """A row a round; the pictures show every fold, and all of them together."""
    lines = {
        metric: {f"fold {result['seed'] % FOLDS + 1}": result[metric] for result in results}
        for metric in ("accuracy", "loss")
    }
    plot_panels(pictures / "curves.png", [Panel(metric, by_fold) for metric, by_fold in lines.items()])
    matrix = np.sum([result["confusion"] for result in results], axis=0)
    plot_confusion(pictures / "confusion.png", matrix, CLASSES, "letters held out")
    seconds = np.mean([result["seconds"] for result in results])
    rows = [
        f"| {number} | {spread([result['accuracy'][index][1] for result in results])} |"
        for index, (number, _) in enumerate(results[0]["accuracy"])
    ]
    return "\n".join(
        [
            f"Right on letters that no device had, mean of {len(results)} of {FOLDS} folds,",
            f"± standard deviation (range); {seconds:.0f} s a fold.",
            "",
            "| round | accuracy |",
            "|---|---|",
            *rows,
            "",
            f"After the last round, over all folds: {accuracy(matrix):.2%} of {matrix.sum()} letters right.",
        ]
    )


def _people(data: Path) -> list[Path]:
    people = sorted(path for path in data.iterdir() if path.is_dir())
    if not people:
        raise DataError(f"{data}: no folder in it; one a person is needed, with a folder of images a letter")
    return people


def _deal(person: Path, fold: int, root: Path) -> int:
    """Copy a person's images to the device, or aside when they are of the fold; how many the device has."""
    images = sorted(path for letter in CLASSES for path in (person / letter).glob("*.png"))
    order = np.random.default_rng(FOLD_STREAM).permutation(len(images))
    for place, index in enumerate(order):
        image = images[index]
        held_out = place % FOLDS == fold
        name = f"{person.name}-{image.name}" if held_out else image.name
        folder = root / ("test" if held_out else f"data/{person.name}") / image.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, folder / name)
    return sum(1 for _ in (root / "data" / person.name).rglob("*.png"))


def _write_task(root: Path) -> None:
    shutil.copyfile(Path(__file__).with_name("task.py"), root / "task.py")
    contract = DataContract(shape=(100, 100, 1), dtype="uint8", classes=CLASSES)
    write_examples(root / "test.npz", load(ImageFolderSettings(path=root / "test"), contract))


def _first_held_out(fleet: LocalFleet) -> Path:
    return min((fleet.folder.root / "test").rglob("*.png"))


def _predict(fleet: LocalFleet, run: str) -> Job:
    """Have `midge predict` name the first letter held out, while the confusion matrix is made."""
    arguments = (str(fleet.folder.run(run) / "model.keras"), str(_first_held_out(fleet)), "--json")
    return fleet.processes.job("predict", "deploy.command.entry", "predict", *arguments)


def _predicted(fleet: LocalFleet, predicting: Job, screen: Screen) -> dict[str, str]:
    image, said = _first_held_out(fleet), json.loads(fleet.wait_for(predicting))["class"]
    screen.say(f"midge predict model.keras {image}: {said}")
    return {"true": image.parent.name, "said": said}


EXAMPLE = Example(play, report)
