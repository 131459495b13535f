"""The cost of counting what a model takes for what, while it is measured on MNIST's 10,000 test images.

Each model is measured as the aggregator does it: alone, with counting, and followed by a second pass that
predicts, in turns, after a first time that compiles it. The models are the CNN of `benchmarks/cnn.py` and the
dense network of examples/digits_missing. Prints the median of each, in seconds of the processor, in a table,
and a JSON line.

`python -m benchmarks.confusion DIR`, the folder of MNIST's four IDX files.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.keras.confusion import Counting
from aggregator.keras.determinism import be_deterministic
from aggregator.keras.task import EVALUATION_BATCH, KerasTask
from benchmarks.cnn import cnn
from broker.contract import DataContract, Needs
from edge_agent.data.idx import read
from edge_agent.data.settings import IdxSettings
from examples.digits_missing.task import build_model

TURNS = 9
CLASSES = tuple(map(str, range(10)))


def dense_case(x: Any) -> tuple[Any, Any]:  # noqa: ANN401  Keras ships no types
    return build_model(), x


def cnn_case(x: Any) -> tuple[Any, Any]:  # noqa: ANN401  Keras ships no types
    return cnn(28, "sgd"), x[..., None].astype(np.float32) / 255


def built(case: Callable[[Any], tuple[Any, Any]], mnist: Path, *, counting: bool) -> KerasTask:
    held_out = read(IdxSettings(path=mnist, images="t10k-images-idx3-ubyte", labels="t10k-labels-idx1-ubyte"))
    model, x = case(held_out.x)
    contract = DataContract.model_validate({"shape": x.shape[1:], "dtype": str(x.dtype), "classes": CLASSES})
    counted = Counting(model, len(CLASSES)) if counting else None
    return KerasTask(model, contract, Needs(), (x, held_out.y.astype(np.int32)), {}, counted)


def twice(task: KerasTask) -> None:
    """Measure, and predict: what counting saves."""
    assert task.test_data is not None
    task.measure()
    task.model.predict(task.test_data[0], batch_size=EVALUATION_BATCH, verbose=0)


def seconds(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median of each way, of the processor; tried in turns, since a machine is not as fast all the time."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if turn:
                taken[name].append(time.process_time() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mnist", type=Path, help="folder of MNIST's four IDX files")
    mnist = parser.parse_args().mnist
    be_deterministic()
    figures: dict[str, dict[str, float]] = {}
    for case in (dense_case, cnn_case):
        plain, counting = (built(case, mnist, counting=counts) for counts in (False, True))
        figures[case.__name__] = seconds(
            {
                "measured": plain.measure,
                "and counted": counting.measure,
                "and predicted": partial(twice, plain),
            }
        )
        assert counting.confusion() is not None
    print(f"{'seconds':12}" + "".join(f"{name:>16}" for name in next(iter(figures.values()))))
    for name, found in figures.items():
        print(f"{name:12}" + "".join(f"{taken:16.3f}" for taken in found.values()))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
