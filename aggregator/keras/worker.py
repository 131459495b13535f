"""The Keras child of the aggregator: `python -m aggregator.keras.worker`, JSON lines in and out.

`build` makes a task's first theta and its program; `evaluate` saves a theta as a `.keras` file and measures
it. Each is answered by `built`, `evaluated` or `failed`. A fresh child may be asked either.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from aggregator.keras.determinism import be_deterministic, keras
from aggregator.keras.program import export
from aggregator.keras.task import Task, load_task
from aggregator.keras.weights import Model, layout_of, set_theta, theta_of
from broker.layout import THETA_DTYPE, Theta
from host.children import Emit, Json, serve
from host.errors import ConfigError, MidgeError
from host.files import publish_file, sync_file, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

THETA_FILE = "theta.f32"
PROGRAM_FILE = "program.json"
EVALUATION_BATCH = 64
MAX_DETAIL = 300


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuildRequest(_Request):
    """Build the task's model and write `theta.f32` and `program.json` into `folder`.

    `initial`, a `.keras` file or a raw theta, takes the place of freshly drawn weights.
    """

    verb: Literal["build"] = "build"
    task: Path
    folder: Path
    seed: int
    initial: Path | None = None


class EvaluateRequest(_Request):
    """Save the model with `theta` to `keras`, and measure it on the task's held-out data."""

    verb: Literal["evaluate"] = "evaluate"
    task: Path
    theta: Path
    keras: Path


class Worker:
    """Does requests one by one; the model of the last task stays built."""

    def __init__(self) -> None:
        be_deterministic()
        self._task: tuple[Path, Task] | None = None

    def handle(self, request: Json, emit: Emit) -> None:
        """Answer one request; whatever goes wrong is told as `failed`."""
        verbs: dict[str, Callable[[Json], Json]] = {"build": self._build, "evaluate": self._evaluate}
        try:
            answer = verbs[request["verb"]](request)
        except Exception as error:  # noqa: BLE001  the task file is the user's
            answer = {"event": "failed", "detail": _detail(error)[:MAX_DETAIL]}
        emit(answer)

    def _build(self, fields: Json) -> Json:
        request = BuildRequest.model_validate(fields)
        task = self._load(request.task, request.seed)
        if request.initial is not None:
            set_theta(task.model, _initial(request.initial, task.model))
        program = export(task.model)
        theta = theta_of(task.model)
        if not np.isfinite(theta).all():
            raise ConfigError(
                "the model's first weights are not finite; check build_model() or the initial file"
            )
        theta_path, program_path = request.folder / THETA_FILE, request.folder / PROGRAM_FILE
        write_atomic(theta_path, theta.tobytes())
        write_atomic(program_path, program.to_bytes())
        return {
            "event": "built",
            "theta": str(theta_path),
            "program": str(program_path),
            "layout": program.layout.digest,
            "parameters": program.layout.size,
            "contract": task.contract.model_dump(mode="json"),
            "test_examples": 0 if task.test_data is None else len(task.test_data[0]),
        }

    def _evaluate(self, fields: Json) -> Json:
        request = EvaluateRequest.model_validate(fields)
        # The seed decides nothing here: all weights are those of theta.
        task = self._task[1] if self._task and self._task[0] == request.task else self._load(request.task, 0)
        set_theta(task.model, _read_theta(request.theta, task.model))
        _save(task.model, request.keras)
        return {"event": "evaluated", "metrics": _measure(task)}

    def _load(self, path: Path, seed: int) -> Task:
        self._task = None
        keras.backend.clear_session()
        task = load_task(path, seed)
        # Without its variables, a loaded `.keras` warns that its optimizer begins afresh.
        task.model.optimizer.build(task.model.trainable_variables)
        self._task = (path, task)
        return task


def _initial(path: Path, model: Model) -> Theta:
    if path.suffix != ".keras":
        return _read_theta(path, model)
    try:
        earlier = keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ConfigError(f"{path}: no Keras model that can be loaded: {_detail(error)}") from error
    if layout_of(earlier) != layout_of(model):
        raise ConfigError(
            f"{path}: its weights have other shapes than the task's model; it cannot be its beginning"
        )
    return theta_of(earlier)


def _read_theta(path: Path, model: Model) -> Theta:
    """Raw little-endian float32[P]; raises ConfigError when it has not the model's length."""
    size, needed = path.stat().st_size, THETA_DTYPE.itemsize * layout_of(model).size
    if size != needed:
        raise ConfigError(
            f"{path}: theta of {size} bytes, the task's model needs {needed}; did the task change?"
        )
    return np.fromfile(path, THETA_DTYPE)


def _save(model: Model, path: Path) -> None:
    temporary = path.with_name(f".{path.stem}.tmp.keras")
    model.save(temporary)
    sync_file(temporary)
    publish_file(temporary, path)


def _measure(task: Task) -> dict[str, tuple[float, float]] | None:
    """Compiled metrics as (sum, weight); None without held-out data; what is not finite is left out."""
    if task.test_data is None:
        return None
    x, y = task.test_data
    means = task.model.evaluate(x, y, batch_size=EVALUATION_BATCH, verbose=0, return_dict=True)
    return {
        name: (float(mean) * len(x), float(len(x)))
        for name, mean in means.items()
        if math.isfinite(float(mean))
    }


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
