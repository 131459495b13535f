"""A task with a Keras model: what its file gives, checked, and the model at hand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from aggregator.confusion import Counts, classes_to_count
from aggregator.keras.confusion import Counting
from aggregator.keras.determinism import keras
from aggregator.keras.program import LITERT, export, export_for_litert, rebuilt
from aggregator.keras.weights import Model, layout_of, set_theta, theta_of
from aggregator.taskfile import TaskFile
from broker.contract import DataContract, Needs
from broker.layout import Layout, Theta
from broker.names import Metrics, metric_on
from broker.program import Program
from host.errors import ConfigError, first_line
from host.files import publish_file, sync_file

EVALUATION_BATCH = 64
_METRICS = TypeAdapter(Metrics)

Pair = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class KerasTask:
    """What the task file gives; the model holds the weights at hand."""

    suffix = ".keras"

    model: Model
    contract: DataContract
    needs: Needs
    test_data: Pair | None
    test_parts: Mapping[str, Pair]
    counting: Counting | None = None

    @property
    def layout(self) -> Layout:
        """The shapes of the model's weights; raises ConfigError when one is not float32."""
        return layout_of(self.model)

    @property
    def test_examples(self) -> int:
        """How many held-out examples there are."""
        return 0 if self.test_data is None else len(self.test_data[0])

    def export(self, runtime: str, batch: int) -> Program:
        """The program for devices with this runtime, in batches of `batch` rows.

        Raises ConfigError when the model has parts that only code describes, or that do not convert.
        """
        if runtime == LITERT:
            return export_for_litert(self.model, batch)
        program = export(self.model)
        self._compare(rebuilt(program))
        return program

    def _compare(self, copy: Model) -> None:
        """See that devices get this loss: Keras 3.15 does not describe all in full (Huber's delta)."""
        set_theta(copy, theta_of(self.model))
        x, y = _probe(self.contract)
        ours, theirs = (model.test_on_batch(x, y, return_dict=True) for model in (self.model, copy))
        self.model.reset_metrics()
        for name, value in ours.items():
            if not np.isclose(value, theirs[name], rtol=1e-4, equal_nan=True):
                raise ConfigError(
                    f"devices would compute another {name}: Keras describes it only in part; "
                    "use the runtime 'litert', or another loss or metric"
                )

    def theta(self) -> Theta:
        """The weights at hand: float32[P]."""
        return theta_of(self.model)

    def set_theta(self, theta: Theta) -> None:
        """Take other weights, float32[P]."""
        set_theta(self.model, theta)

    def save(self, path: Path) -> None:
        """Write the model as a `.keras` file."""
        # Without its variables, a loaded file warns that its optimizer begins afresh.
        self.model.optimizer.build(self.model.trainable_variables)
        temporary = path.with_name(f".{path.stem}.tmp.keras")
        self.model.save(temporary)
        sync_file(temporary)
        publish_file(temporary, path)

    def read(self, path: Path) -> Theta:
        """Weights of a `.keras` file: float32[P]; raises ConfigError when they are not this model's."""
        try:
            earlier = keras.models.load_model(path, compile=False)
        except Exception as error:
            raise ConfigError(f"{path}: no Keras model that can be loaded: {first_line(error)}") from error
        if layout_of(earlier) != self.layout:
            raise ConfigError(
                f"{path}: its weights have other shapes than the task's model; it cannot be its beginning"
            )
        return theta_of(earlier)

    def measure(self) -> Metrics | None:
        """Compiled metrics as (sum, weight); None without held-out data; what is not finite is left out."""
        if self.test_data is None:
            return None
        parts = {
            metric_on(name, part): pair
            for part, examples in self.test_parts.items()
            for name, pair in self._measured(examples).items()
        }
        if self.counting is not None:
            self.counting.begin()
        return self._measured(self.test_data) | parts

    def confusion(self) -> Counts | None:
        """What `measure` saw taken for what on all of the held-out data; None where that cannot be told."""
        return None if self.counting is None else self.counting.counts(self.test_examples)

    def _measured(self, examples: Pair) -> Metrics:
        x, y = examples
        means = self.model.evaluate(x, y, batch_size=EVALUATION_BATCH, verbose=0, return_dict=True)
        return {
            name: (float(mean) * len(x), float(len(x)))
            for name, mean in means.items()
            if math.isfinite(float(mean))
        }


def load_task(path: Path, seed: int, *, held_out: bool = True) -> KerasTask:
    """Run the task file and check what it gives; raises ConfigError.

    The file has `build_model()`, which returns a compiled Keras model; `data_contract`, a dict; if not every
    device will do, `needs`, a dict; and, if there is held-out data, `test_data()`, which returns arrays
    (x, y) that fit the contract, or a dict of such pairs: first all of it, then by name the parts to measure
    on besides. Without `held_out` it is not called.
    """
    file = TaskFile(path)
    if not file.has("build_model"):
        raise file.fault(
            "no function build_model(), nor a line `runtime = ...`; see docs/guide.md for what a task has"
        )
    keras.utils.set_random_seed(seed % (1 << 32))
    model = file.call("build_model")
    _check_model(model, file)
    held_out = held_out and file.has("test_data")
    classes = classes_to_count(file.contract) if held_out else ()
    counting = Counting(model, len(classes)) if classes else None
    _try_model(model, file)
    whole, parts = _held_out(model, file) if held_out else (None, {})
    return KerasTask(model, file.contract, file.needs, whole, parts, counting)


def _held_out(model: Model, file: TaskFile) -> tuple[Pair, dict[str, Pair]]:
    given = file.call("test_data")
    if not isinstance(given, dict) or not given:
        return _check_data(given, file), {}
    whole, *parts = ((str(name), _check_data(pair, file)) for name, pair in given.items())
    _check_parts([name for name, _ in parts], model, file)
    return whole[1], dict(parts)


def _check_model(model: Model, file: TaskFile) -> None:
    """Built, compiled, and fit for the contract; raises ConfigError."""
    if not isinstance(model, keras.Model):
        raise file.fault(f"build_model() gave {type(model).__name__}, not a Keras model")
    if not model.built:
        raise file.fault("the model has no input shape; begin it with keras.Input")
    if not model.compiled or model.loss is None or model.optimizer is None:
        raise file.fault("the model is not compiled with a loss; call model.compile in build_model()")
    if not model.trainable_weights:
        raise file.fault("the model has no weight that can be trained")
    takes, shape = getattr(model, "input_shape", None), file.contract.shape
    if not isinstance(takes, tuple) or takes[1:] != shape:
        raise file.fault(f"the model takes {takes}, data_contract's shape is {shape}")


def _try_model(model: Model, file: TaskFile) -> None:
    """Let loss and metrics see two examples; raises ConfigError."""
    try:
        model.test_on_batch(*_probe(file.contract))
    except Exception as error:
        raise file.fault(
            f"the model cannot be used on data_contract's examples: {first_line(error)}"
        ) from error
    model.reset_metrics()


def _probe(contract: DataContract) -> Pair:
    """Two examples: of the last class, which must be one of the model's, or with a near and a far target."""
    x = np.zeros((2, *contract.shape), contract.dtype)
    if contract.classes:
        return x, np.full(2, len(contract.classes) - 1, np.int32)
    return x, np.stack([np.full(contract.target_shape, target, np.float32) for target in (0.25, 4.0)])


def _check_parts(parts: list[str], model: Model, file: TaskFile) -> None:
    """See that the metrics of all parts have names, and few enough, for a message; raises ConfigError."""
    names = model.test_on_batch(*_probe(file.contract), return_dict=True)
    model.reset_metrics()
    try:
        _METRICS.validate_python({metric_on(name, part): (0, 0) for part in ["", *parts] for name in names})
    except ValidationError as error:
        raise file.misfit("the metrics on all parts of test_data()", error) from None


def _check_data(pair: Any, file: TaskFile) -> Pair:  # noqa: ANN401  whatever the file gives
    """The held-out data in the contract's types; raises ConfigError when it does not fit the contract."""
    if not (isinstance(pair, tuple) and len(pair) == 2):  # noqa: PLR2004  x and y
        raise file.fault("test_data() has to return a tuple (x, y), or a dict of those")
    x, y = (np.asarray(part) for part in pair)
    contract = file.contract
    shape = () if contract.classes else contract.target_shape
    if len(x) != len(y) or not len(x):
        raise file.fault(f"test_data() gave {len(x)} inputs and {len(y)} labels")
    if x.shape[1:] != contract.shape or y.shape[1:] != shape:
        raise file.fault(
            f"test_data() gave shapes {x.shape[1:]} and {y.shape[1:]} an example, data_contract "
            f"says {contract.shape} and {shape}"
        )
    if not np.can_cast(x.dtype, contract.dtype, "same_kind"):
        raise file.fault(f"test_data() gave {x.dtype} inputs, data_contract says {contract.dtype}")
    if contract.classes and not (y.dtype.kind in "iu" and y.min() >= 0 and y.max() < len(contract.classes)):
        raise file.fault("labels of test_data() are no indexes of data_contract's classes")
    return x.astype(contract.dtype, copy=False), y.astype(
        np.int32 if contract.classes else np.float32, copy=False
    )
