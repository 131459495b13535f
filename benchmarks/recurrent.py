"""What recurrent layers cost as loops in the training program, beside the same layers laid out step by step.

Prints a table and a JSON line. For each layer and number of time steps: CPU seconds of the export without its
gate, size of the file, CPU milliseconds of a training step and of an inference (batch 32, 8 inputs, 64 units,
SGD, one thread), and peak memory of a process that trains. Both ways are measured in one run; compare the
ratios. `--unrolled-up-to` leaves out the longest ones the old way, which take minutes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

LAYERS = ("LSTM", "GRU", "SimpleRNN")
TIME_STEPS = (16, 128, 512)
WAYS = ("loop", "unrolled")
BATCH, INPUTS, UNITS = 32, 8, 64
RUNS = 30


def export(way: str, layer: str, steps: int, path: Path) -> dict[str, float]:
    """Write a program; run in a process of its own."""
    from aggregator.keras.determinism import be_deterministic, keras  # noqa: PLC0415
    from aggregator.keras.litert import export as exporter  # noqa: PLC0415
    from aggregator.keras.litert import gate  # noqa: PLC0415

    be_deterministic()
    recurrent = getattr(keras.layers, layer)(UNITS, unroll=way == "unrolled")
    model = keras.Sequential([keras.Input((steps, INPUTS)), recurrent, keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    gate.Gate.check = lambda *_, **__: None  # type: ignore[method-assign]  # it takes as long both ways
    if way == "unrolled":
        exporter.builtin_functions = with_keras_own_rnn(exporter.builtin_functions)  # type: ignore[attr-defined]
    began = time.process_time()
    body = exporter.export_litert(model, batch=BATCH)
    path.write_bytes(body.tflite)
    return {"export_cpu_s": time.process_time() - began, "file_kb": len(body.tflite) / 1000}


def with_keras_own_rnn(stand_ins: Callable[[], Any]) -> Callable[[], Any]:
    from keras.src import backend  # noqa: PLC0415

    own = backend.rnn

    @contextmanager
    def all_others() -> Any:  # noqa: ANN401
        with stand_ins():
            backend.rnn = own
            yield

    return all_others


def run(path: Path) -> dict[str, float]:
    """Train and infer; run in a process of its own, as a trainer child is."""
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]  # noqa: PLC0415

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    found = {f"{name}_cpu_ms": cpu_ms(interpreter.get_signature_runner(name)) for name in ("train", "infer")}
    return {**found, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}


def cpu_ms(runner: Any) -> float:  # noqa: ANN401
    """Least CPU time of a call, after one to warm up."""
    random = np.random.default_rng(0)
    inputs = {
        name: (0.1 * random.normal(size=needed["shape"])).astype(needed["dtype"])
        for name, needed in runner.get_input_details().items()
    }
    times = []
    for _ in range(1 + RUNS):
        began = time.process_time()
        runner(**inputs)
        times.append(time.process_time() - began)
    return 1000 * min(times[1:])


def in_a_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, __file__, *arguments]
    output = subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def measure(longest: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.tflite")
        for layer in LAYERS:
            for steps in TIME_STEPS:
                for way in WAYS:
                    if way == "unrolled" and steps > longest:
                        continue
                    found = in_a_process("export", way, layer, str(steps), str(path))
                    found |= in_a_process("run", str(path))
                    rows.append({"layer": layer, "steps": steps, "way": way} | found)
                    show(rows[-1])
    return rows


def show(row: dict[str, Any]) -> None:
    values = (f"{value:>14.2f}" if isinstance(value, float) else f"{value:>10}" for value in row.values())
    print("".join(values), flush=True)


def main() -> None:
    match sys.argv[1:]:
        case ["export", way, layer, steps, path]:
            print(json.dumps(export(way, layer, int(steps), Path(path))))
        case ["run", path]:
            print(json.dumps(run(Path(path))))
        case _:
            parser = argparse.ArgumentParser(description=__doc__)
            parser.add_argument("--unrolled-up-to", type=int, default=max(TIME_STEPS), metavar="STEPS")
            longest = parser.parse_args().unrolled_up_to
            names = ("export_cpu_s", "file_kb", "train_cpu_ms", "infer_cpu_ms", "peak_rss_mb")
            print(
                "".join(f"{name:>10}" for name in ("layer", "steps", "way"))
                + "".join(f"{n:>14}" for n in names)
            )
            print(json.dumps({"benchmark": "recurrent", "rows": measure(longest)}))


if __name__ == "__main__":
    main()
