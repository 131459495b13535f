"""The task file as Python: run once, then asked for what it gives; errors name the file and the line."""

import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from broker.contract import DataContract, Needs
from host.errors import ConfigError

MAX_DETAIL = 300
_RUNTIME_LINE = re.compile(rb"^runtime\s*[:=]", re.MULTILINE)


def names_runtime(path: Path) -> bool:
    """Tell whether the file has a line `runtime = ...`, which makes it a task without Keras.

    Its text decides, not the module: Keras has to be set up before a file that imports it is run.
    """
    return path.is_file() and _RUNTIME_LINE.search(path.read_bytes()) is not None


class TaskFile:
    """A task file that was run without an error and has a data contract."""

    def __init__(self, path: Path) -> None:
        """Run the file; raises ConfigError."""
        self.path = path
        self._module: ModuleType = self._run(self._import)
        self.contract = self._contract()
        self.needs = self._needs()

    def get(self, name: str) -> Any:  # noqa: ANN401  whatever the file gives
        """What the file calls `name`; None when there is no such thing."""
        return getattr(self._module, name, None)

    def has(self, name: str) -> bool:
        """Whether the file gives something of this name."""
        return hasattr(self._module, name)

    def call(self, name: str, *arguments: object) -> Any:  # noqa: ANN401  whatever the file gives
        """Call one of the file's functions; raises ConfigError when it is missing or raises."""
        function = self.get(name)
        if not callable(function):
            raise self.fault(f"no function {name}(); see docs/guide.md for what a task file has")
        return self._run(lambda: function(*arguments))

    def fault(self, text: str) -> ConfigError:
        """An error to raise, which names the file."""
        return ConfigError(f"{self.path.name}: {text}"[:MAX_DETAIL])

    def misfit(self, what: str, error: ValidationError) -> ConfigError:
        """An error to raise, with the first of the faults found in `what`."""
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "as a whole"
        return self.fault(f"{what}, {where}: {fault['msg']}")

    def _import(self) -> ModuleType:
        """Run the file as a module; what lies beside it can be imported."""
        path = self.path
        spec = importlib.util.spec_from_file_location("midge_task", path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ConfigError(f"{path}: no Python file; check the task's path")
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        module = sys.modules["midge_task"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def _run(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401  whatever the file gives
        """Call the user's code; what it raises becomes a ConfigError with the line of the task file."""
        try:
            return call()
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            what = (str(error).strip().splitlines() or [""])[0]
            text = f"{self._place(error)}: {type(error).__name__}: {what}"
            raise ConfigError(text[:MAX_DETAIL]) from error

    def _place(self, error: BaseException) -> str:
        path = self.path
        if isinstance(error, SyntaxError) and error.filename == str(path):
            return f"{path.name} line {error.lineno}"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        return f"{path.name} line {lines[-1]}" if lines else path.name

    def _contract(self) -> DataContract:
        fields = self.get("data_contract")
        if not isinstance(fields, dict):
            raise self.fault("no dict data_contract; at least its `shape` is needed")
        try:
            return DataContract.model_validate(fields)
        except ValidationError as error:
            raise self.misfit("data_contract", error) from None

    def _needs(self) -> Needs:
        fields = self.get("needs") if self.has("needs") else {}
        if not isinstance(fields, dict):
            raise self.fault(f"needs is {type(fields).__name__}, not a dict")
        try:
            return Needs.model_validate(fields)
        except ValidationError as error:
            raise self.misfit("needs", error) from None
