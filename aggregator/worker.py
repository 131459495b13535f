"""The aggregator's child that runs task files: `python -m aggregator.worker`, JSON lines in and out.

`build` makes a task's first theta and its program; `evaluate` saves a theta as a model file, measures it
and, where there are classes, writes beside it what it takes for what; `export` writes what a device can try
by itself. Each is answered by `built`, `evaluated`, `exported` or `failed`. A fresh child may be asked any.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from aggregator.confusion import write_confusion
from aggregator.plain import PlainTask
from aggregator.requests import (
    PROGRAM_FILE,
    REQUESTS,
    THETA_FILE,
    BuildRequest,
    EvaluateRequest,
    ExportRequest,
    Request,
)
from aggregator.task import Task
from aggregator.taskfile import MAX_DETAIL, names_runtime
from broker.layout import THETA_DTYPE, Theta
from broker.program import KerasBody, Program
from host.children import Emit, Json, serve
from host.errors import ConfigError, MidgeError, first_line
from host.files import write_atomic

if TYPE_CHECKING:
    from aggregator.keras.task import KerasTask

THETA_SUFFIX = ".f32"


class Worker:
    """Does requests one by one; the last task stays loaded."""

    def __init__(self) -> None:
        self._task: tuple[Path, Task] | None = None

    def handle(self, request: Json, emit: Emit) -> None:
        """Answer one request; whatever goes wrong is told as `failed`."""
        try:
            answer = self._answer(REQUESTS.validate_python(request))
        except Exception as error:  # noqa: BLE001  the task file is the user's
            answer = {"event": "failed", "detail": _detail(error)[:MAX_DETAIL]}
        emit(answer)

    def _answer(self, request: Request) -> Json:
        match request:
            case BuildRequest():
                return self._build(request)
            case EvaluateRequest():
                return self._evaluate(request)
            case ExportRequest():
                return self._export(request)

    def _build(self, request: BuildRequest) -> Json:
        task = self._load(request.task, request.seed)
        if request.initial is not None:
            task.set_theta(_initial(request.initial, task))
        program = task.export(request.runtime, request.batch_size)
        if request.scheduled and _has_own_schedule(program):
            raise ConfigError(
                "the model is compiled with a schedule of its own, and the run has another one: "
                "give the run a learning_rate, or neither schedule nor warmup_rounds"
            )
        theta, body = request.folder / THETA_FILE, request.folder / PROGRAM_FILE
        write_atomic(theta, _first_theta(task))
        write_atomic(body, program.to_bytes())
        return {
            "event": "built",
            "theta": str(theta),
            "program": str(body),
            "layout": program.layout.digest,
            "parameters": program.layout.size,
            "contract": task.contract.model_dump(mode="json"),
            "needs": task.needs.model_dump(mode="json"),
            "test_examples": task.test_examples,
        }

    def _evaluate(self, request: EvaluateRequest) -> Json:
        # The seed decides nothing here: all weights are those of theta.
        task = self._task[1] if self._task and self._task[0] == request.task else self._load(request.task, 0)
        task.set_theta(_read_theta(request.theta, task))
        model = request.model.with_name(request.model.name + task.suffix)
        task.save(model)
        metrics, confusion = task.measure(), task.confusion()
        if confusion is not None:
            write_confusion(request.model, task.contract.classes or (), confusion)
        return {"event": "evaluated", "model": str(model), "metrics": metrics}

    def _export(self, request: ExportRequest) -> Json:
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
        return f"request, {'.'.join(map(str, fault['loc'])) or 'as a whole'}: {fault['msg']}"
    line, kind = first_line(error), type(error).__name__
    return line if isinstance(error, MidgeError) or line == kind else f"{kind}: {line}"


def main() -> None:
    """Serve until the aggregator closes our stdin."""
    serve(Worker().handle)


if __name__ == "__main__":
    main()
