"""A task without Keras: arrays, and the text that a runtime of the user's own makes a model of."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from aggregator.confusion import Counts, classes_to_count, count
from aggregator.taskfile import TaskFile
from broker.layout import Layout, Theta
from broker.names import MetricName, Metrics
from broker.program import Program
from host.errors import ConfigError
from host.files import publish_file, sync_file

# A sum may be what is not finite: a model that diverged is measured all the same.
_MEASURED = TypeAdapter(
    Annotated[dict[MetricName, tuple[float, Annotated[float, Field(ge=0)]]], Field(max_length=64)]
)


class PlainTask:
    """What the task file gives, and the weights at hand."""

    suffix = ".npz"

    def __init__(self, path: Path, seed: int) -> None:
        """Run the task file and take its first weights; raises ConfigError.

        The file has `runtime`, the name of an entry point on the devices; `data_contract`, a dict;
        `initial_theta()`, which returns a list of float32 arrays; and, if there is need of them, `needs`, a
        dict; `program()`, which returns the text for the runtime; and `evaluate(weights)`, which returns
        {name: (sum, weight)} or, with it, (true, predicted): the indexes of the examples' classes.
        """
        self._file = TaskFile(path)
        self.contract, self.needs = self._file.contract, self._file.needs
        weights = self._first_weights(seed)
        try:
            self.layout = Layout(trainable=tuple(weight.shape for weight in weights))
        except ValidationError as error:
            raise self._file.misfit("initial_theta()", error) from None
        self._theta = self.layout.flatten(weights)
        self._confusion: Counts | None = None

    @property
    def test_examples(self) -> int:
        """How many examples `evaluate()` measures on, as the weights of its metrics say: it is tried."""
        return int(max((weight for _, weight in (self.measure() or {}).values()), default=0))

    def export(self, _runtime: str, _batch: int) -> Program:
        """The program for devices; raises ConfigError."""
        runtime, body = self._file.get("runtime"), ""
        if not isinstance(runtime, str):
            raise self._file.fault(
                f"runtime is {runtime!r}, not an entry point's name; only a task without Keras has a runtime"
            )
        if self._file.has("program"):
            body = self._file.call("program")
        if not isinstance(body, str):
            raise self._file.fault(f"program() gave {type(body).__name__}, not a text")
        try:
            return Program(layout=self.layout, runtime=runtime, body=body)
        except ValidationError as error:
            raise self._file.misfit("the program", error) from None

    def theta(self) -> Theta:
        """The weights at hand: float32[P]."""
        return self._theta

    def set_theta(self, theta: Theta) -> None:
        """Take other weights, float32[P]."""
        self._theta = theta

    def save(self, path: Path) -> None:
        """Write the weights as `numpy.savez` does: arr_0, arr_1, in the order of the task file."""
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("wb") as file:
            np.savez(file, *self.layout.unflatten(self._theta))
        sync_file(temporary)
        publish_file(temporary, path)

    def read(self, path: Path) -> Theta:
        """Weights that `save` wrote: float32[P]; raises ConfigError when they are not this task's."""
        try:
            with np.load(path, allow_pickle=False) as saved:
                return self.layout.flatten([saved[f"arr_{i}"] for i in range(len(saved.files))])
        except Exception as error:
            raise ConfigError(f"{path}: no weights of this task: {error}") from error

    def measure(self) -> Metrics | None:
        """What `evaluate()` says of the weights at hand; what is not finite is left out.

        None without such a function; raises ConfigError.
        """
        if not self._file.has("evaluate"):
            return None
        said = self._file.call("evaluate", self.layout.unflatten(self._theta))
        classes, self._confusion = classes_to_count(self.contract), None
        if isinstance(said, tuple) and len(said) == 2:  # noqa: PLR2004  metrics and predictions
            said, predictions = said
            self._confusion = count(predictions, len(classes)) if classes else None
        try:
            measured = _MEASURED.validate_python(said)
        except ValidationError as error:
            raise self._file.misfit("evaluate() has to return {name: (sum, weight)}", error) from None
        return {name: pair for name, pair in measured.items() if all(map(math.isfinite, pair))}

    def confusion(self) -> Counts | None:
        """What the last `evaluate()` took for what, if it told; None where there are no classes."""
        return self._confusion

    def _first_weights(self, seed: int) -> Sequence[NDArray[Any]]:
        random.seed(seed)
        np.random.seed(seed % (1 << 32))  # noqa: NPY002  a task file may draw from numpy's own generator
        weights = self._file.call("initial_theta")
        if not isinstance(weights, list | tuple) or not weights:
            raise self._file.fault("initial_theta() has to return a list of arrays, the first weights")
        for index, weight in enumerate(weights):
            if not isinstance(weight, np.ndarray) or weight.dtype != np.float32:
                kind = weight.dtype if isinstance(weight, np.ndarray) else type(weight).__name__
                raise self._file.fault(f"initial_theta()[{index}] is {kind}, only arrays of float32 travel")
            if not weight.size:
                raise self._file.fault(f"initial_theta()[{index}] has shape {weight.shape}: nothing to train")
        return weights
