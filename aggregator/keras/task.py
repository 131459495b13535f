"""The task file: loaded, run and checked, with errors that name the line."""

import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from aggregator.keras.determinism import keras
from aggregator.keras.weights import Model
from broker.contract import DataContract
from host.errors import ConfigError

Pair = tuple[NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """What the task file gives."""

    model: Model
    contract: DataContract
    test_data: Pair | None


def load_task(path: Path, seed: int) -> Task:
    """Run the task file and check what it gives; raises ConfigError.

    The file has `build_model()`, which returns a compiled Keras model; `data_contract`, a dict; and, if
    there is held-out data, `test_data()`, which returns arrays (x, y) that fit the contract.
    """
    module = _run(path, lambda: _import(path))
    contract = _contract(module, path)
    keras.utils.set_random_seed(seed % (1 << 32))
    model = _run(path, _function(module, "build_model", path))
    _check_model(model, contract, path)
    test_data = _run(path, module.test_data) if hasattr(module, "test_data") else None
    return Task(model, contract, None if test_data is None else _check_data(test_data, contract, path))


def _import(path: Path) -> ModuleType:
    """Run the file as a module; what lies beside it can be imported."""
    spec = importlib.util.spec_from_file_location("midge_task", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{path}: no Python file; check the task's path")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    module = sys.modules["midge_task"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(path: Path, call: Callable[[], Any]) -> Any:  # noqa: ANN401  whatever the file gives
    """Call the user's code; what it raises becomes a ConfigError with the line of the task file."""
    try:
        return call()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        what = (str(error).strip().splitlines() or [""])[0]
        raise ConfigError(f"{_place(error, path)}: {type(error).__name__}: {what}"[:300]) from error


def _place(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path.name} line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f"{path.name} line {lines[-1]}" if lines else path.name


def _function(module: ModuleType, name: str, path: Path) -> Callable[[], Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{path.name}: no function {name}(); see docs/guide.md for what a task file has")
    return function  # type: ignore[no-any-return]


def _contract(module: ModuleType, path: Path) -> DataContract:
    fields = getattr(module, "data_contract", None)
    if not isinstance(fields, dict):
        raise ConfigError(f"{path.name}: no dict data_contract; at least its `shape` is needed")
    try:
        return DataContract.model_validate(fields)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "as a whole"
        raise ConfigError(f"{path.name}: data_contract, {where}: {fault['msg']}") from None


def _check_model(model: Model, contract: DataContract, path: Path) -> None:
    """Built, compiled, and fit for the contract; raises ConfigError."""
    if not isinstance(model, keras.Model):
        raise ConfigError(f"{path.name}: build_model() gave {type(model).__name__}, not a Keras model")
    if not model.built:
        raise ConfigError(f"{path.name}: the model has no input shape; begin it with keras.Input")
    if not model.compiled or model.loss is None or model.optimizer is None:
        raise ConfigError(
            f"{path.name}: the model is not compiled with a loss; call model.compile in build_model()"
        )
    if not model.trainable_weights:
        raise ConfigError(f"{path.name}: the model has no weight that can be trained")
    takes = getattr(model, "input_shape", None)
    if not isinstance(takes, tuple) or takes[1:] != contract.shape:
        raise ConfigError(f"{path.name}: the model takes {takes}, data_contract's shape is {contract.shape}")
    _try_model(model, contract, path)


def _try_model(model: Model, contract: DataContract, path: Path) -> None:
    """Let loss and metrics see two examples: of the last class, which must be one of the model's."""
    x = np.zeros((2, *contract.shape), contract.dtype)
    y = np.zeros((2, *contract.target_shape), np.float32)
    if contract.classes:
        y = np.full(2, len(contract.classes) - 1, np.int32)
    try:
        model.test_on_batch(x, y)
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{path.name}: the model cannot be used on data_contract's examples: {line}"[:300]
        ) from error
    model.reset_metrics()


def _check_data(pair: Any, contract: DataContract, path: Path) -> Pair:  # noqa: ANN401  whatever the file gives
    """The held-out data in the contract's types; raises ConfigError when it does not fit the contract."""
    if not (isinstance(pair, tuple) and len(pair) == 2):  # noqa: PLR2004  x and y
        raise ConfigError(f"{path.name}: test_data() has to return a tuple (x, y)")
    x, y = (np.asarray(part) for part in pair)
    shape = () if contract.classes else contract.target_shape
    if len(x) != len(y) or not len(x):
        raise ConfigError(f"{path.name}: test_data() gave {len(x)} inputs and {len(y)} labels")
    if x.shape[1:] != contract.shape or y.shape[1:] != shape:
        raise ConfigError(
            f"{path.name}: test_data() gave shapes {x.shape[1:]} and {y.shape[1:]} an example, data_contract "
            f"says {contract.shape} and {shape}"
        )
    if not np.can_cast(x.dtype, contract.dtype, "same_kind"):
        raise ConfigError(
            f"{path.name}: test_data() gave {x.dtype} inputs, data_contract says {contract.dtype}"
        )
    if contract.classes and not (y.dtype.kind in "iu" and y.min() >= 0 and y.max() < len(contract.classes)):
        raise ConfigError(f"{path.name}: labels of test_data() are no indexes of data_contract's classes")
    return x.astype(contract.dtype, copy=False), y.astype(
        np.int32 if contract.classes else np.float32, copy=False
    )
