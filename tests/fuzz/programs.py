"""`make fuzz`: damaged training programs through the agent's trainer, as many at once as there are cores.

Fails when an agent fails, a job goes on past its limits, or a sound program is not trained after damaged
ones to the same update as before.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aggregator.keras.determinism import be_deterministic, keras
from host.quiet import stderr_closed
from tests.edge_agent.runtimes.litert_bench import Bench
from tests.fuzz.mutations import KILLED, SILENCED, Model, counted, survive

IN_A_ROW = 50


def models() -> list[Model]:
    """Small classifiers, each with operators that the others have not."""
    layers = keras.layers
    last = {"units": 3, "activation": "softmax"}
    benches = {
        "dense": Bench(layers.Dense(8, activation="relu"), layers.Dense(**last)),
        "cnn": Bench(
            layers.Conv2D(2, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(**last),
            optimizer="adam",
            shape=(6, 6, 1),
        ),
        "lstm": Bench(layers.LSTM(4), layers.Dense(**last), shape=(5, 3)),
        "dropout": Bench(layers.Dense(8), layers.Dropout(0.5), layers.Dense(**last)),
    }
    return [Model.of(name, bench) for name, bench in benches.items()]


def run(model: Model, numbers: range) -> Counter[str]:
    """One device's share; says which programs did more harm than to be refused."""
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="midge-fuzz-") as folder:
        for number, kind, outcome in survive(Path(folder), model, numbers):
            kinds[kind] += 1
            if kind in {KILLED, SILENCED}:
                sys.stdout.write(f"  {model.name} {number}: {kind}: {getattr(outcome, 'detail', '')[:90]}\n")
    return kinds


def main() -> None:
    """Run all; the exit status is 1 when something must not have happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="how many damaged programs in all")
    parser.add_argument("--first", type=int, default=0, help="number of the first one of each model")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many devices at a time")
    given = parser.parse_args()
    be_deterministic()
    with stderr_closed():
        tried = models()
    end = given.first + -(-given.count // len(tried))
    shares = [
        (model, range(begin, min(begin + IN_A_ROW, end)))
        for begin in range(given.first, end, IN_A_ROW)
        for model in tried
    ]
    began = time.monotonic()
    by_model = {model.name: Counter[str]() for model in tried}
    # LiteRT says on stderr what it finds wrong with each program.
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        ThreadPoolExecutor(given.jobs) as pool,
    ):
        for (model, _), kinds in zip(shares, pool.map(lambda share: run(*share), shares), strict=True):
            by_model[model.name] += kinds
    for name, kinds in by_model.items():
        sys.stdout.write(f"{name:8} {counted(kinds)}\n")
    in_all = sum(by_model.values(), Counter[str]())
    sys.stdout.write(
        f"{'in all':8} {counted(in_all)}: {in_all.total()} in {time.monotonic() - began:.0f} s\n"
    )


if __name__ == "__main__":
    main()
