"""`midge simulate --task` on MNIST: 20 devices, dirichlet:0.3, with and without FedProx; time of a round.

A CNN (Conv2D 8x5, pool, Conv2D 16x3, Dense 10) or, with --logistic, softmax regression is trained for some
rounds of one local epoch, and measured on the 10,000 test images. Prints the verb's table, then a JSON line
with what it says of each run, the time it all took and that time by round and by training of a device.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from rich.console import Console

from aggregator.run_settings import RunSettings
from aggregator.stopping import StopRule
from deploy.command.results import quieten_tensorflow
from deploy.simulator.training.comparison import Plan, compare
from deploy.simulator.training.partition import Partition
from deploy.simulator.training.report import document, table
from deploy.simulator.training.shares import Source

RULE = StopRule.parse("accuracy >= 0.8")
TASK = """
import keras
from edge_agent.data.settings import IdxSettings
from edge_agent.data.idx import read

data_contract = {{"shape": (28, 28), "dtype": "uint8", "classes": [str(digit) for digit in range(10)]}}

def build_model():
    layers = keras.layers
    model = keras.Sequential([keras.Input((28, 28)), layers.Rescaling(1 / 255), {layers}])
    model.compile(keras.optimizers.SGD({rate}), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

def test_data():
    return read(IdxSettings(path={data!r}, images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte"))
"""
CNN = """layers.Reshape((28, 28, 1)), layers.Conv2D(8, 5, activation="relu"), layers.MaxPooling2D(),
    layers.Conv2D(16, 3, activation="relu"), layers.Flatten(), layers.Dense(10, activation="softmax")"""
LOGISTIC = """layers.Flatten(), layers.Dense(10, activation="softmax")"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mnist", type=Path, help="folder of MNIST's four IDX files")
    parser.add_argument("--logistic", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    quieten_tensorflow()
    common = {"rounds": given.rounds, "epochs": 1, "federated_evaluation": False}
    settings = {
        name: RunSettings.model_validate(common | {"proximal": proximal})
        for name, proximal in (("fedavg", 0.0), ("prox 0.01", 0.01), ("prox 0.1", 0.1))
    }
    with tempfile.TemporaryDirectory() as folder:
        task = Path(folder) / "task.py"
        layers, rate = (LOGISTIC, 0.1) if given.logistic else (CNN, 0.05)
        task.write_text(TASK.format(layers=layers, rate=rate, data=str(given.mnist.absolute())))
        plan = Plan(
            task=task,
            source=Source(given.mnist),
            partition=Partition.parse("dirichlet:0.3"),
            devices=20,
            settings=settings,
            seeds=given.seeds,
            processes=given.processes,
        )
        began = time.monotonic()
        found = compare(plan, lambda _name, _done: None)
        seconds = time.monotonic() - began
    Console().print(table(found, RULE))
    rounds = sum(len(trial.result.rounds) for trial in found.trials)
    runs = [{key: run[key] for key in run if key != "history"} for run in document(found, RULE)["runs"]]
    each = {
        "seconds": seconds,
        "seconds_a_round": seconds / rounds,
        "seconds_a_training": seconds / rounds / 20,
    }
    print(json.dumps({"benchmark": "compare_settings", "processes": given.processes, **each, "runs": runs}))


if __name__ == "__main__":
    main()
