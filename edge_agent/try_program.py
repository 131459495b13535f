"""`midge-agent try PROGRAM DATA`: train a program on data that is here, without any broker."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from pydantic import ValidationError

from broker.contract import DataContract
from broker.layout import THETA_DTYPE, Layout, Theta
from broker.litert import LiteRTBody
from broker.messages import MAX_PROGRAM_BYTES, TrainingSettings
from broker.program import Program
from edge_agent.data.examples import MAX_LABELS
from edge_agent.data.kind import source_of
from edge_agent.data.settings import DataSettings
from edge_agent.data.source import inspect, load
from edge_agent.data.split import Split, split
from edge_agent.runtimes.base import MetricSums
from edge_agent.runtimes.litert import LiteRTRuntime
from edge_agent.runtimes.order import rows_in_all
from host.errors import ConfigError, DataError, WireError
from host.exits import ExitCode

RUNTIME = "litert"
VALIDATION_FRACTION = 0.1
COLOURS = 3


@dataclass(frozen=True)
class Trial:
    """What the command line asks for."""

    program: Path
    data: Path
    theta: Path | None = None
    """Raw float32[P] to begin with, or random weights."""
    steps: int | None = None
    """How many batches, or one epoch."""
    target: str | None = None
    """Column of a CSV file, or its last one."""


def try_program(trial: Trial, out: TextIO) -> ExitCode:
    """Train for an epoch or some steps, and print what it brought and what it cost.

    Raises ConfigError, DataError or WireError when program, data or theta cannot be used.
    """
    try:
        program = Program.from_bytes(_read(trial.program, MAX_PROGRAM_BYTES))
    except WireError as error:
        raise DataError(f"{trial.program}: is not the program.json of `midge export`: {error}") from None
    if program.runtime != RUNTIME:
        raise ConfigError(
            f"{trial.program}: is for runtime {program.runtime!r}; export it for {RUNTIME!r} to try it"
        )
    body = LiteRTBody.from_json(program.body)
    training, aside = _examples(trial, body)
    theta = _beginning(trial, program.layout)
    out.write(f"program  {program.layout.size} weights, batches of {body.batch}\n")
    out.write(f"data     {len(training.x)} examples to train on, {len(aside.x)} aside to measure with\n")
    runtime = LiteRTRuntime()
    runtime.load(program.body.encode(), program.layout)
    settings = TrainingSettings(epochs=None if trial.steps else 1, steps=trial.steps, batch_size=body.batch)
    _train(runtime, theta, Split(training, aside if len(aside.x) else training), settings, out)
    return ExitCode.OK


def _train(
    runtime: LiteRTRuntime, theta: Theta, examples: Split, settings: TrainingSettings, out: TextIO
) -> None:
    out.write(f"before   {_told(runtime.evaluate(theta, examples.validation))}\n")
    began = time.perf_counter()
    trained = runtime.train(theta, examples.training, settings, (), lambda _: None)
    rate = rows_in_all(len(examples.training.x), settings) / (time.perf_counter() - began)
    out.write(f"after    {_told(runtime.evaluate(trained.theta, examples.validation))}\n")
    out.write(f"speed    {rate:.0f} examples/s\n")
    out.write(f"memory   {_peak_bytes() / 1e6:.0f} MB at most\n")


def contract_of(body: LiteRTBody, source: DataSettings) -> DataContract:
    """The contract that the program implies; the data says how its classes are called."""
    if not body.classes:
        return DataContract(shape=body.x_shape, dtype=body.x_dtype, target_shape=body.y_shape)
    labels = inspect(source).labels
    if not labels:
        raise DataError(f"{source.path}: the program takes labels, and the data has other targets")
    classes = tuple(sorted(labels))
    if all(label.isdecimal() for label in labels):
        highest = max(map(int, labels))
        if highest >= MAX_LABELS:
            raise DataError(f"{source.path}: has a label {highest}; number the classes from 0")
        classes = tuple(map(str, range(highest + 1)))
    try:
        return DataContract(shape=body.x_shape, dtype=body.x_dtype, classes=classes)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise DataError(f"{source.path}: a label cannot be a class's name: {fault['msg']}") from None


def _examples(trial: Trial, body: LiteRTBody) -> Split:
    source = source_of(trial.data, colour=body.x_shape[2:] == (COLOURS,), target=trial.target)
    return split(load(source, contract_of(body, source)), VALIDATION_FRACTION)


def _beginning(trial: Trial, layout: Layout) -> Theta:
    if trial.theta is None:
        return random_theta(layout)
    content = _read(trial.theta, THETA_DTYPE.itemsize * layout.size)
    if len(content) != THETA_DTYPE.itemsize * layout.size:
        raise DataError(
            f"{trial.theta}: {len(content)} bytes, the program has {layout.size} weights of 4 bytes"
        )
    return np.frombuffer(content, THETA_DTYPE)


def random_theta(layout: Layout) -> Theta:
    """Weights to try with, float32[P], the same every time: kernels as in Glorot and Bengio (AISTATS 2010).

    What is a bias or a scale, a layout does not say: all of them are 0.1, and other state is 1.
    """
    random = np.random.default_rng(0)
    theta = np.ones(layout.size, THETA_DTYPE)
    for entry in layout.entries:
        weights = theta[entry.offset : entry.offset + entry.size]
        if entry.trainable and len(entry.shape) > 1:
            fans = entry.size / entry.shape[-1] + entry.size / entry.shape[-2]
            weights[:] = random.uniform(-1, 1, entry.size) * np.sqrt(6 / max(fans, 1))
        elif entry.trainable:
            weights[:] = 0.1
    return theta


def _told(sums: MetricSums) -> str:
    return ", ".join(f"{name} {total / weight:.4f}" for name, (total, weight) in sums.items())


def _read(path: Path, limit: int) -> bytes:
    """At most one byte more than the limit, so that what is too long shows."""
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; check the path") from None


def _peak_bytes() -> int:
    """The most memory that this process had resident: not getrusage's, which begins with the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
