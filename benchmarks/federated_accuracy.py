"""What federated training reaches with LiteRT on the devices, and with Keras on the same ones.

The fleet is that of examples/digits_missing: three devices with MNIST that lack three digits each, 3 rounds
of 10 epochs. For each seed both runtimes train in one federation, from the same weights, on the same
examples in the same order. Prints a table of accuracies on the 10000 test images and a JSON line; exits
with 1 when the means over the seeds are further apart than the target.

`python -m benchmarks.federated_accuracy --data DIR`, the folder of MNIST's four IDX files.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from deploy.demo.conduct import Plan, open_fleet, train_together
from deploy.demo.folder import DemoFolder
from deploy.demo.lessons import mnist
from deploy.demo.shares import LACKING
from deploy.local.screen import Screen

RUNTIMES = ("litert", "keras")
TARGET_POINTS = 0.3


def accuracies(data: Path, seed: int, rounds: int | None) -> dict[str, float]:
    """What each runtime reaches, in percent; raises MidgeError."""
    lesson, screen = mnist(data), Screen(Console(stderr=True))
    plan = Plan(lesson, len(LACKING), rounds or lesson.rounds, seed)
    with tempfile.TemporaryDirectory(prefix="midge-accuracy-") as name:
        folder = DemoFolder(Path(name))
        shares = folder.fill(lesson, plan.devices, seed)
        try:
            with open_fleet(plan, folder, shares, screen) as fleet:
                fleet.go_online()
                runs = {runtime: train_together(plan, fleet, runtime=runtime) for runtime in RUNTIMES}
        finally:
            screen.clear()
    return {runtime: round(100 * run.metrics["accuracy"], 2) for runtime, run in runs.items()}


def row(name: str, found: dict[str, float]) -> str:
    figures = "".join(f"{found[runtime]:12.2f}" for runtime in RUNTIMES)
    return f"{name:8}{figures}{apart(found):+12.2f}"


def apart(found: dict[str, float]) -> float:
    """Percentage points by which LiteRT is ahead."""
    litert, keras = (found[runtime] for runtime in RUNTIMES)
    return litert - keras


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="MNIST's four IDX files")
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--rounds", type=int, help="fewer, for a try")
    given = parser.parse_args()
    print(f"{'seed':8}{'litert, %':>12}{'keras, %':>12}{'points':>12}")
    seeds = []
    for seed in range(given.seeds):
        seeds.append(accuracies(given.data, seed, given.rounds))
        print(row(str(seed), seeds[-1]), flush=True)
    mean = {runtime: sum(found[runtime] for found in seeds) / len(seeds) for runtime in RUNTIMES}
    met = abs(apart(mean)) <= TARGET_POINTS
    print(f"{row('mean', mean)}  target {TARGET_POINTS}  {'met' if met else 'MISSED'}")
    print(
        json.dumps(
            {"benchmark": "federated_accuracy", "seeds": seeds, "mean": mean, "points": round(apart(mean), 4)}
        )
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
