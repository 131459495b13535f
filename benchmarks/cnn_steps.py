"""CNN training steps in LiteRT beside `tf.function` of the same Keras step, and where LiteRT's time goes.

Prints milliseconds of CPU time a step (least and median), both in one process, on one thread, in turns, so
compare the ratios; then the operators of each program that take the most, each timed alone as a file of
its own (its numbers are then in the caches more often than in the whole step); then a JSON line.
Given a folder it also times the `NAME.tflite` in it, which this script writes there by `--write FOLDER`:
so two versions of the exporter are compared in one run.
The models are the MNIST CNN and the letters CNN (Conv2D 8x5, pool, Conv2D 16x3, Dense 10), batches of 32.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]

from aggregator.keras.determinism import keras
from aggregator.keras.litert.export import export_litert
from benchmarks.cnn import cnn

BATCH = 32
CASES = {
    "cnn28_sgd": (28, keras.optimizers.SGD, 40),
    "cnn100_sgd": (100, keras.optimizers.SGD, 3),
    "cnn100_adam": (100, keras.optimizers.Adam, 3),
}
TURNS = 15
ALONE_S = 0.1
SHOWN = 12
RATE = 0.001
TRAIN = b"train"

Model = Any
Step = Callable[[], object]


def batch_of(size: int) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    x = random.random((BATCH, size, size, 1), np.float32)
    return x, random.integers(0, 10, BATCH).astype(np.int32)


def keras_step(model: Model, x: Any, y: Any) -> Step:  # noqa: ANN401
    """Forward, backward and the optimizer as one graph; XLA off, as Keras has it on a CPU."""
    loss, weights, optimizer = keras.losses.get(model.loss), model.trainable_variables, model.optimizer
    optimizer.build(weights)

    @tf.function  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:  # noqa: ANN401
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(y, model(x, training=True)))
        optimizer.apply(tape.gradient(value, weights), weights)
        return value

    x, y = tf.constant(x), tf.constant(y)
    return lambda: step(x, y)


def litert_step(tflite: bytes, x: Any, y: Any) -> Step:  # noqa: ANN401
    """As a device takes it: theta and the optimizer's state go in and come out."""
    runner = Interpreter(model_content=tflite, num_threads=1).get_signature_runner(TRAIN.decode())
    sizes = {name: tuple(found["shape"]) for name, found in runner.get_input_details().items()}
    state = {
        "theta": (0.02 * np.random.default_rng(1).normal(size=sizes["theta"])).astype(np.float32),
        "opt": np.zeros(sizes["opt"], np.float32),
    }
    fixed = {"lr": np.array([RATE], np.float32), "x": x, "y": y, "weight": np.ones(BATCH, np.float32)}

    def step() -> None:
        after = runner(**state, **fixed)
        state.update(theta=after["theta"], opt=after["opt"])

    return step


def in_turns(steps: dict[str, Step], count: int) -> dict[str, list[float]]:
    """CPU milliseconds a step of each, from `TURNS` turns of `count` steps."""
    for step in steps.values():
        step(), step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name, step in steps.items():
            began = time.process_time()
            for _ in range(count):
                step()
            times[name].append(1000 * (time.process_time() - began) / count)
    return times


def operators(tflite: bytes) -> Iterator[tuple[str, str, float]]:
    """Each operator of a training step: its name, what it gives, and CPU milliseconds alone."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite, 0))
    entry = next(entry for entry in whole.signatureDefs if entry.signatureKey == TRAIN)
    graph = whole.subgraphs[entry.subgraphIndex]
    for operator in graph.operators:
        code = whole.operatorCodes[operator.opcodeIndex]
        given = graph.tensors[operator.outputs[0]].shape
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        yield name, "x".join(map(str, given if given is not None else ())), alone_ms(whole, graph, operator)


def alone_ms(whole: Any, graph: Any, operator: Any) -> float:  # noqa: ANN401
    """Time one operator as a program of its own, least of many runs."""
    one, part = copy.copy(whole), copy.copy(graph)
    used = [index for index in operator.inputs if index >= 0]
    held = {index: whole.buffers[graph.tensors[index].buffer].data for index in used}
    constants = {index for index, data in held.items() if data is not None and len(data)}
    part.operators, part.outputs = [operator], list(operator.outputs)
    part.inputs = [index for index in dict.fromkeys(used) if index not in constants]
    one.subgraphs, one.signatureDefs = [part], []
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(one.Pack(builder), b"TFL3")
    interpreter = Interpreter(model_content=bytes(builder.Output()), num_threads=1)
    interpreter.allocate_tensors()
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], tensor["dtype"]))
    interpreter.invoke()
    times: list[float] = []
    end = time.process_time() + ALONE_S
    while not times or time.process_time() < end:
        began = time.process_time()
        interpreter.invoke()
        times.append(time.process_time() - began)
    return 1000 * min(times)


def show_operators(found: list[tuple[str, str, float]]) -> None:
    total = sum(milliseconds for *_, milliseconds in found)
    for name, given, milliseconds in sorted(found, key=lambda row: -row[2])[:SHOWN]:
        print(f"  {name:16} {given:16} {milliseconds:8.3f} ms {100 * milliseconds / total:5.0f} %")
    print(f"  all {len(found)}: {total:.2f} ms")


def compare(name: str, others: Path | None) -> dict[str, Any]:
    """Print and give the figures of one case."""
    size, optimizer, count = CASES[name]
    x, y = batch_of(size)
    model = cnn(size, optimizer(RATE))
    program = export_litert(model, batch=BATCH).tflite
    steps = {"tf.function": keras_step(model, x, y), "litert": litert_step(program, x, y)}
    if others is not None:
        steps["litert, other"] = litert_step((others / f"{name}.tflite").read_bytes(), x, y)
    times = in_turns(steps, count)
    least = {which: min(values) for which, values in times.items()}
    for which, values in times.items():
        ratio = least[which] / least["tf.function"]
        median = statistics.median(values)
        print(f"{name:12} {which:14} {least[which]:8.2f} least {median:8.2f} median {ratio:6.2f} x")
    found = list(operators(program))
    show_operators(found)
    return {"bytes": len(program), **{which: round(value, 3) for which, value in least.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("others", nargs="?", type=Path)
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    # Threads alone: TensorFlow's deterministic operators are slower, which would flatter LiteRT.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if options.write:
        for name, (size, optimizer, _) in CASES.items():
            program = export_litert(cnn(size, optimizer(RATE)), batch=BATCH)
            (options.write / f"{name}.tflite").write_bytes(program.tflite)
        return
    results = {name: compare(name, options.others) for name in CASES}
    print(json.dumps({"benchmark": "cnn_steps", "cpu_ms_per_step": results}))


if __name__ == "__main__":
    main()
