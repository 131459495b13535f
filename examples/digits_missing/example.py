"""Three devices lack three digits each: the demo with MNIST, and how each set of digits fares by round."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from broker.names import metric_on
from deploy.demo.conduct import Plan, conduct
from deploy.demo.folder import DemoFolder
from deploy.demo.lessons import mnist
from deploy.demo.shares import LACKING, spell
from deploy.local.screen import Screen
from deploy.results.plots import Panel, curve, plot_confusion, plot_panels
from examples.harness import Example, Order, Result, history_of, spread

PARTS = {f"only {spell(digits)}": metric_on("accuracy", spell(digits)) for digits in LACKING}
MEASURED = {"all digits": "accuracy", **PARTS}


def play(order: Order, screen: Screen) -> Result:
    """Devices alone, then together; raises MidgeError."""
    lesson = mnist(order.needed_data("the four IDX files of MNIST"))
    folder = DemoFolder(order.folder)
    plan = Plan(lesson, len(LACKING), order.rounds or lesson.rounds, order.seed)
    outcome = conduct(plan, folder, screen)
    history = history_of(folder, outcome.run)
    screen.show(outcome.table())
    return {
        "seed": order.seed,
        "alone": outcome.document()["accuracy_alone"],
        "curves": {name: curve(history, metric) for name, metric in MEASURED.items()},
        "confusion": outcome.together.tolist(),
        "seconds": outcome.seconds,
    }


def report(results: Sequence[Result], pictures: Path) -> str:
    """A row a round; the pictures are of the first seed."""
    first = results[0]
    best = max(first["alone"].values())
    plot_panels(pictures / "curves.png", [Panel("accuracy", first["curves"], {"best device alone": best})])
    classes = [str(digit) for digit in range(10)]
    plot_confusion(pictures / "confusion.png", np.array(first["confusion"]), classes, "after the last round")
    alone = [accuracy for result in results for accuracy in result["alone"].values()]
    rounds = range(len(first["curves"]["all digits"]))
    seconds = np.mean([result["seconds"] for result in results])
    lines = [
        f"Right on MNIST's 10000 test images, mean of {len(results)} seeds, ± standard deviation (range).",
        f"A device alone, on all digits: {spread(alone)}. {seconds:.0f} s a seed, devices alone included.",
        "",
        f"| round | {' | '.join(MEASURED)} |",
        f"|---{'|---' * len(MEASURED)}|",
    ]
    for index in rounds:
        cells = [spread([result["curves"][name][index][1] for result in results]) for name in MEASURED]
        lines.append(f"| {index + 1} | {' | '.join(cells)} |")
    return "\n".join(lines)


EXAMPLE = Example(play, report)
