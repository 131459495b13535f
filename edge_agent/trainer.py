"""The trainer, a child process of the agent: `python -m edge_agent.trainer`, JSON lines in and out.

Verbs: `inspect`, `train`, `evaluate`, each answered by one `inspected`, `trained`, `evaluated` or `failed`;
the latter two by `progress` in between, and `train` by one `measured`. TensorFlow is imported by the first of
them that needs it.
"""

import contextlib
import errno
import math
import resource
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from broker.contract import DataContract
from broker.layout import THETA_DTYPE, Layout, Theta
from broker.messages import DeclineReason, TrainingSettings
from broker.program import Program
from broker.sealing import seal_update
from broker.update import DELTA, encode_update
from edge_agent.data.examples import AnyArray
from edge_agent.data.fit import ContractError
from edge_agent.data.settings import DataSettings
from edge_agent.data.source import fingerprint, inspect, load
from edge_agent.data.split import Split, split
from edge_agent.progress import Teller, TrainingTeller, evaluate
from edge_agent.runtimes.base import MetricSums, Runtime, check_honours
from edge_agent.runtimes.order import rows_in_all
from edge_agent.runtimes.registry import create
from host.children import Emit, Json, serve
from host.errors import ConfigError, DataError, SealError, WireError
from host.files import publish_file, sync_file

MAX_DETAIL = 300


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InspectRequest(_Request):
    """Count a data source's examples."""

    verb: Literal["inspect"] = "inspect"
    data: DataSettings


class _Work(_Request):
    data: DataSettings
    runtime: str
    program: Path
    theta: Path
    layout: str
    contract: DataContract
    settings: TrainingSettings


class Sealing(_Request):
    """To which key an update is sealed, and for what."""

    key: str
    context: str


class TrainRequest(_Work):
    """Train from a theta and write the update; `state` is where kept optimizer state lies."""

    verb: Literal["train"] = "train"
    update: Path
    state: Path
    sealing: Sealing | None = None


class EvaluateRequest(_Work):
    """Measure a theta on the validation part of the data, or on all of it when that part is empty."""

    verb: Literal["evaluate"] = "evaluate"


class Trainer:
    """Does requests one by one, and keeps data, runtime and model for the next one."""

    def __init__(self) -> None:
        self._runtime: tuple[str, Runtime] | None = None
        self._data: tuple[tuple[object, ...], Split] | None = None

    def handle(self, request: Json, emit: Emit) -> None:
        """Answer one request; whatever goes wrong is told as `failed`."""
        verbs: dict[str, Callable[[Json, Emit], Json]] = {
            "inspect": self._inspect,
            "train": self._train,
            "evaluate": self._evaluate,
        }
        try:
            answer = verbs[request["verb"]](request, emit)
        except Exception as error:  # noqa: BLE001  a runtime may raise anything
            answer = _failed(error)
        emit(answer)

    def _inspect(self, fields: Json, _emit: Emit) -> Json:
        found = inspect(InspectRequest.model_validate(fields).data)
        return {
            "event": "inspected",
            "examples": found.examples,
            "shape": found.shape,
            "labels": found.labels,
        }

    def _train(self, fields: Json, emit: Emit) -> Json:
        request = TrainRequest.model_validate(fields)
        runtime, layout, before = self._prepare(request)
        check_honours(runtime, request.runtime, request.settings)
        examples = self._examples(request)
        telling = TrainingTeller(rows_in_all(len(examples.training.x), request.settings), emit)
        began = time.monotonic()
        trained = runtime.train(before, examples.training, request.settings, _read_state(request), telling)
        seconds = time.monotonic() - began
        telling.end()
        delta, size = _delta(before, trained.theta), request.settings.batch_size
        validation = evaluate(runtime, trained.theta, examples.validation, size, telling.again)
        _write(request, encode_update(layout.digest, {DELTA: delta}), trained.optimizer)
        return {
            "event": "trained",
            "examples": int(trained.examples),
            "metrics": _finite(trained.metrics),
            "validation": _finite(validation),
            "seconds": seconds,
        }

    def _evaluate(self, fields: Json, emit: Emit) -> Json:
        request = EvaluateRequest.model_validate(fields)
        runtime, _, theta = self._prepare(request)
        examples = self._examples(request)
        part = examples.validation if len(examples.validation.x) else examples.training
        telling = Teller(len(part.x), emit)
        sums = evaluate(runtime, theta, part, request.settings.batch_size, telling)
        return {"event": "evaluated", "metrics": _finite(sums)}

    def _prepare(self, request: _Work) -> tuple[Runtime, Layout, Theta]:
        """Have the runtime load the program; its theta is as long as the one that is there."""
        program = Program.from_bytes(request.program.read_bytes())
        if program.runtime != request.runtime:
            raise WireError(f"program is for runtime {program.runtime!r}, the round for {request.runtime!r}")
        if program.layout.digest != request.layout:
            raise WireError(
                "program has another layout than the round's; the aggregator has to publish it again"
            )
        theta = _read_theta(request.theta, program.layout)
        if self._runtime is None or self._runtime[0] != request.runtime:
            self._runtime = (request.runtime, create(request.runtime))
        runtime = self._runtime[1]
        runtime.load(program.body.encode(), program.layout)
        return runtime, program.layout, theta

    def _examples(self, request: _Work) -> Split:
        """Load and split the data, unless that was done and its files are what they were."""
        fraction = request.settings.validation_fraction
        key = (request.data, request.contract, fraction, fingerprint(request.data))
        if self._data is None or self._data[0] != key:
            self._data = None
            self._data = (key, split(load(request.data, request.contract), fraction))
        return self._data[1]


def _read_theta(path: Path, layout: Layout) -> Theta:
    """Raw little-endian float32[P]; raises WireError when it has not the layout's length."""
    size = path.stat().st_size
    if size != THETA_DTYPE.itemsize * layout.size:
        raise WireError(f"theta of {size} bytes, the layout needs {THETA_DTYPE.itemsize * layout.size}")
    return np.fromfile(path, THETA_DTYPE)


def _delta(before: Theta, after: Theta) -> Theta:
    if after.shape != before.shape:
        raise ValueError(f"the runtime gave a theta of shape {after.shape}, {before.shape} is needed")
    delta = np.subtract(after, before, dtype=np.float32)
    if not np.isfinite(delta).all():
        raise ValueError("training diverged: a weight is not finite any more; try a lower learning rate")
    return delta


def _read_state(request: TrainRequest) -> list[AnyArray]:
    """Kept optimizer state; empty, to begin afresh, when none is asked for, or there, or it is damaged."""
    path = request.state
    if request.settings.optimizer_state != "keep" or not path.exists():
        return []
    try:
        with np.load(path, allow_pickle=False) as kept:
            return [kept[f"arr_{i}"] for i in range(len(kept.files))]
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        print(f"{path}: kept optimizer state is damaged ({error}); beginning afresh", file=sys.stderr)  # noqa: T201
        return []


def _write(request: TrainRequest, update: Iterable[bytes], optimizer: Sequence[AnyArray]) -> None:
    """Write the update, which the agent syncs when it takes it, and the optimizer's state if that is kept.

    Of what the disk has no room for nothing is left.
    """
    temporary = request.state.with_name(f".{request.state.name}.tmp")
    try:
        with request.update.open("wb") as file:
            file.writelines(_sealed(request, update))
        if request.settings.optimizer_state == "keep":
            with temporary.open("wb") as file:
                np.savez(file, *optimizer)
            sync_file(temporary)
            publish_file(temporary, request.state)
    except (OSError, SealError):
        for path in (request.update, temporary):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def _sealed(request: TrainRequest, update: Iterable[bytes]) -> Iterable[bytes]:
    """Block by block: nothing readable touches the disk."""
    sealing = request.sealing
    return seal_update(update, sealing.key, sealing.context.encode()) if sealing else update


def _finite(metrics: MetricSums) -> dict[str, tuple[float, float]]:
    """Leave out what cannot travel: a loss may overflow although the weights are finite."""
    pairs = {name: (float(value), float(weight)) for name, (value, weight) in metrics.items()}
    return {name: pair for name, pair in pairs.items() if all(map(math.isfinite, pair))}


def _failed(error: Exception) -> Json:
    return {"event": "failed", "reason": _reason(error).value, "detail": _detail(error)[:MAX_DETAIL]}


def _detail(error: Exception) -> str:
    """One line: a library's message of many ends with the point, save for TensorFlow's names of nodes."""
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False)[0]
        return f"request, {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    if isinstance(error, MemoryError):
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
        allowed = "" if limit == resource.RLIM_INFINITY else f" of {limit} bytes (trainer_memory_bytes)"
        return f"out of the memory{allowed} that the trainer may take: {error}".removesuffix(": ")
    # Of all errors, only this one says no more than the key.
    text = f"no {error} is there" if isinstance(error, KeyError) else str(error)
    lines = [line for line in text.strip().splitlines() if not line.lstrip().startswith("[[")]
    return (lines or [type(error).__name__])[-1]


def _reason(error: Exception) -> DeclineReason:
    match error:
        case ContractError():
            return DeclineReason.CONTRACT
        case DataError():
            return DeclineReason.DATA
        case WireError() | ValidationError():
            return DeclineReason.PROGRAM
        case ConfigError():
            return DeclineReason.RUNTIME
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EROFS | errno.EIO):
            return DeclineReason.DISK
    return DeclineReason.TRAINING_FAILED


def main() -> None:
    """Serve until the agent closes our stdin."""
    serve(Trainer().handle)


if __name__ == "__main__":
    main()
