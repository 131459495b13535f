"""The aggregator's child that runs task files: `python -m aggregator.keras.worker`, JSON lines in and out.

`build` makes a task's first theta and its program; `evaluate` saves a theta as a model file and measures
it; `export` writes what a device can try by itself. Each is answered by `built`, `evaluated`, `exported` or
`failed`. A fresh child may be asked any.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from aggregator.plain import PlainTask
from aggregator.taskfile import MAX_DETAIL, names_runtime
from broker.contract import DataContract, Needs
from broker.layout import THETA_DTYPE, Layout, Theta
from broker.names import Metrics
from broker.program import KerasBody, Program
from host.children import Emit, Json, serve
from host.errors import ConfigError, MidgeError
from host.files import write_atomic

if TYPE_CHECKING:
    from aggregator.keras.task import KerasTask

THETA_FILE = "theta.f32"
THETA_SUFFIX = ".f32"
PROGRAM_FILE = "program.json"


class Task(Protocol):
    """What every kind of task can do; at any time it has weights at hand, first those it begins with."""

    @property
    def contract(self) -> DataContract:
        """What it expects of every device's examples."""

    @property
    def needs(self) -> Needs:
        """What it expects of the devices themselves."""

    @property
    def layout(self) -> Layout:
        """The shapes of its weights."""

    @property
    def suffix(self) -> str:
        """The ending of the model files that `save` writes and `read` reads."""

    @property
    def test_examples(self) -> int:
        """How many examples `measure` measures on; 0 when there are none."""

    def export(self, runtime: str, batch: int, /) -> Program:
        """The program for devices; raises ConfigError."""

    def theta(self) -> Theta:
        """The weights at hand: float32[P]."""

    def set_theta(self, theta: Theta) -> None:
        """Take other weights, float32[P]."""

    def save(self, path: Path) -> None:
        """Write a model file with the weights at hand; it is whole or absent."""

    def read(self, path: Path) -> Theta:
        """Weights of a model file, float32[P]; raises ConfigError when they do not fit."""

    def measure(self) -> Metrics | None:
        """How good the weights at hand are, on held-out data; None without such data."""


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuildRequest(_Request):
    """Run the task file and write `theta.f32` and `program.json` into `folder`.

    `initial`, a model file or a raw theta (`.f32`), takes the place of freshly drawn weights. `runtime` is
    what devices train a Keras model with; a LiteRT program is for batches of `batch_size`. `scheduled` says
    that the run has a schedule for the learning rate that the model is compiled with.
    """

    verb: Literal["build"] = "build"
    task: Path
    folder: Path
    seed: int
    initial: Path | None = None
    runtime: str
    batch_size: int = 32
    scheduled: bool = False


class EvaluateRequest(_Request):
    """Save the model with `theta`, and measure it on the task's held-out data.

    The file is `keras`, or ends in `.npz` instead where the task has no Keras model; the answer names it.
    """

    verb: Literal["evaluate"] = "evaluate"
    task: Path
    theta: Path
    keras: Path


class ExportRequest(_Request):
    """Write `program.json` for LiteRT, `theta.f32`, `model.tflite`, `labels.txt` of a task with Keras."""

    verb: Literal["export"] = "export"
    task: Path
    folder: Path
    seed: int
    batch_size: int


class Worker:
    """Does requests one by one; the last task stays loaded."""

    def __init__(self) -> None:
        self._task: tuple[Path, Task] | None = None

    def handle(self, request: Json, emit: Emit) -> None:
        """Answer one request; whatever goes wrong is told as `failed`."""
        verbs: dict[str, Callable[[Json], Json]] = {
            "build": self._build,
            "evaluate": self._evaluate,
            "export": self._export,
        }
        try:
            answer = verbs[request["verb"]](request)
        except Exception as error:  # noqa: BLE001  the task file is the user's
            answer = {"event": "failed", "detail": _detail(error)[:MAX_DETAIL]}
        emit(answer)

    def _build(self, fields: Json) -> Json:
        request = BuildRequest.model_validate(fields)
        task = self._load(request.task, request.seed)
        if request.initial is not None:
            task.set_theta(_initial(request.initial, task))
        program = task.export(request.runtime, request.batch_size)
        if request.scheduled and _has_own_schedule(program):
            raise ConfigError(
                "the model is compiled with a schedule of its own, and the run has another one: "
                "give the run a learning_rate, or neither schedule nor warmup_rounds"
            )
        theta_path, program_path = request.folder / THETA_FILE, request.folder / PROGRAM_FILE
        write_atomic(theta_path, _first_theta(task))
        write_atomic(program_path, program.to_bytes())
        return {
            "event": "built",
            "theta": str(theta_path),
            "program": str(program_path),
            "layout": program.layout.digest,
            "parameters": program.layout.size,
            "contract": task.contract.model_dump(mode="json"),
            "needs": task.needs.model_dump(mode="json"),
            "test_examples": task.test_examples,
        }

    def _evaluate(self, fields: Json) -> Json:
        request = EvaluateRequest.model_validate(fields)
        # The seed decides nothing here: all weights are those of theta.
        task = self._task[1] if self._task and self._task[0] == request.task else self._load(request.task, 0)
        task.set_theta(_read_theta(request.theta, task))
        model = request.keras.with_suffix(task.suffix)
        task.save(model)
        return {"event": "evaluated", "model": str(model), "metrics": task.measure()}

    def _export(self, fields: Json) -> Json:
        request = ExportRequest.model_validate(fields)
        if names_runtime(request.task):
            raise ConfigError(
                f"{request.task.name}: has no Keras model, and nothing else becomes a LiteRT program"
            )
        self._task = None
        task = _open_keras(request.task, request.seed, held_out=False)
        from aggregator.keras.exporting import MODEL_FILE, described, inference_files  # noqa: PLC0415

        program = task.export("litert", request.batch_size)
        inference = inference_files(task)
        files = {PROGRAM_FILE: program.to_bytes(), THETA_FILE: _first_theta(task), **inference}
        request.folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomic(request.folder / name, content)
        sizes = {name: len(content) for name, content in files.items()}
        return {"event": "exported", "files": sizes, **described(task, program, inference[MODEL_FILE])}

    def _load(self, path: Path, seed: int) -> Task:
        self._task = None
        task = _open(path, seed)
        self._task = (path, task)
        return task


def _open(path: Path, seed: int) -> Task:
    """Run the task file; Keras, which takes seconds and 1.5 GB of disk, is imported only for its tasks."""
    return PlainTask(path, seed) if names_runtime(path) else _open_keras(path, seed, held_out=True)


def _open_keras(path: Path, seed: int, *, held_out: bool) -> "KerasTask":
    from aggregator.keras.determinism import be_deterministic, keras  # noqa: PLC0415
    from aggregator.keras.task import load_task  # noqa: PLC0415

    be_deterministic()
    keras.backend.clear_session()
    return load_task(path, seed, held_out=held_out)


def _first_theta(task: Task) -> bytes:
    theta = task.theta()
    if not np.isfinite(theta).all():
        raise ConfigError("the first weights are not finite; check the task file or the initial file")
    return theta.tobytes()


def _has_own_schedule(program: Program) -> bool:
    """Of the runtimes for Keras models, only Keras takes one."""
    return program.runtime == "keras" and KerasBody.from_json(program.body).learning_rate is None


def _initial(path: Path, task: Task) -> Theta:
    if path.suffix == task.suffix:
        return task.read(path)
    if path.suffix == THETA_SUFFIX:
        return _read_theta(path, task)
    raise ConfigError(f"{path}: a run of this task begins from a {task.suffix} file")


def _read_theta(path: Path, task: Task) -> Theta:
    """Raw little-endian float32[P]; raises ConfigError when it has not the task's length."""
    size, needed = path.stat().st_size, THETA_DTYPE.itemsize * task.layout.size
    if size != needed:
        raise ConfigError(f"{path}: theta of {size} bytes, the task needs {needed}; did the task change?")
    return np.fromfile(path, THETA_DTYPE)


def _detail(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors(include_url=False)[0]
        return f"request, {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    line = (str(error).strip().splitlines() or [""])[0]
    return line if isinstance(error, MidgeError) else f"{type(error).__name__}: {line}"


def main() -> None:
    """Serve until the aggregator closes our stdin."""
    serve(Worker().handle)


if __name__ == "__main__":
    main()
