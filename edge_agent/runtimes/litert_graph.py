"""The functions of a training program, run by LiteRT: checked against what the program says, and tried."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]
from numpy.typing import DTypeLike, NDArray

from broker.layout import Layout
from broker.litert import LiteRTBody
from host.errors import WireError
from host.quiet import stderr_closed

# Adam has two vectors as long as theta and a counter; nothing known has more than four.
MAX_OPTIMIZER_VECTORS = 4
MAX_BATCH_BYTES = 256 << 20

Arrays = Mapping[str, NDArray[Any]]
Tensors = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]

# XNNPACK, which the first has, refuses a few graphs that run without it, more slowly.
_RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


PLAIN = ("train", "evaluate")
# When a round has the device change the gradient between the two parts of a step.
IN_PARTS = ("grad", "apply", "evaluate")


class Graph:
    """An interpreter of those functions of a program that are used, on one thread."""

    def __init__(self, body: LiteRTBody, layout: Layout, functions: tuple[str, ...] = PLAIN) -> None:
        """Allocate and try the functions; raises WireError when they are not what they have to be."""
        _check_sizes(body, layout.size)
        self.functions = functions
        inputs, outputs = _inputs(body, layout), _outputs(body, layout)
        self._inputs = {name: inputs[name] for name in functions}
        self._outputs = {name: outputs[name] for name in functions}
        refusals = []
        for resolver in _RESOLVERS:
            self._resolver = resolver
            try:
                self.restart(body.tflite)
                self._try()
            except _LiteRTError as error:
                refusals.append(str(error))
            else:
                return
        raise WireError(f"training program cannot be run: {refusals[0]}")

    def restart(self, tflite: bytes) -> None:
        """Begin with a new interpreter, of the same functions; raises WireError when it is refused."""
        try:
            # It says each time which delegate it took.
            with stderr_closed():
                interpreter = Interpreter(
                    model_content=tflite, num_threads=1, experimental_op_resolver_type=self._resolver
                )
                self._runners = {name: interpreter.get_signature_runner(name) for name in self._inputs}
        except Exception as error:  # noqa: BLE001  LiteRT raises anything at damaged bytes
            raise _LiteRTError(_one_line(error)) from None

    def call(self, name: str, arrays: Arrays) -> Arrays:
        """Run a function on arrays of the shapes and types of its inputs; raises WireError when it fails."""
        try:
            given: Arrays = self._runners[name](**arrays)
        except Exception as error:  # noqa: BLE001  LiteRT raises anything
            raise _LiteRTError(f"{name!r} failed: {_one_line(error)}") from None
        return given

    def _try(self) -> None:
        """Run each function once on zeros: whether a delegate takes it shows only then."""
        for name, expected in self._inputs.items():
            _compare(f"inputs of {name!r}", self._described(name), expected)
            zeros = {key: np.zeros(shape, dtype) for key, (shape, dtype) in expected.items()}
            # Some say here, once a process, which delegate they took.
            with stderr_closed():
                answer = self.call(name, zeros)
            given = {key: (array.shape, array.dtype) for key, array in answer.items()}
            _compare(f"outputs of {name!r}", given, self._outputs[name])

    def _described(self, name: str) -> Tensors:
        try:
            details = self._runners[name].get_input_details()
            return {
                key: (tuple(map(int, found["shape"])), np.dtype(found["dtype"]))
                for key, found in details.items()
            }
        except Exception as error:  # noqa: BLE001  LiteRT raises anything at damaged bytes
            raise _LiteRTError(_one_line(error)) from None


class _LiteRTError(WireError):
    """LiteRT refused the program or a run of it."""


def _check_sizes(body: LiteRTBody, parameters: int) -> None:
    """Refuse what would take memory out of proportion, before any is allocated."""
    if body.optimizer_size > MAX_OPTIMIZER_VECTORS * (parameters + 1):
        raise WireError(
            f"training program wants {body.optimizer_size} values of optimizer state for {parameters} weights"
        )
    batch_bytes = 4 * body.batch * (math.prod(body.x_shape) + math.prod(body.y_shape))
    if batch_bytes > MAX_BATCH_BYTES:
        raise WireError(
            f"training program wants batches of {batch_bytes} bytes, at most {MAX_BATCH_BYTES} are allowed; "
            "export it with a smaller batch"
        )


def _inputs(body: LiteRTBody, layout: Layout) -> dict[str, Tensors]:
    theta, trained = _tensor(layout.size), _tensor(layout.trainable_size)
    batch = {
        "x": _tensor(body.batch, *body.x_shape, dtype=body.x_dtype),
        "y": _tensor(body.batch, *body.y_shape, dtype=target_dtype(body)),
        "weight": _tensor(body.batch),
    }
    step = {"opt": _tensor(body.optimizer_size), "lr": _tensor(1)}
    return {
        "train": {"theta": theta} | step | batch,
        "grad": {"theta": theta} | batch,
        "apply": {"trained": trained, "grad": trained} | step,
        "evaluate": {"theta": theta} | batch,
    }


def _outputs(body: LiteRTBody, layout: Layout) -> dict[str, Tensors]:
    trained, opt, loss = _tensor(layout.trainable_size), _tensor(body.optimizer_size), _tensor(1)
    state = _tensor(max(1, layout.size - layout.trainable_size))
    return {
        "train": {"theta": _tensor(layout.size), "opt": opt, "loss": loss},
        "grad": {"grad": trained, "loss": loss, "state": state},
        "apply": {"trained": trained, "opt": opt},
        "evaluate": {"sums": _tensor(len(body.metrics)), "weight": _tensor(1)},
    }


def target_dtype(body: LiteRTBody) -> np.dtype[Any]:
    """Of y: int32 labels or float32 targets."""
    return np.dtype(np.int32 if body.classes else np.float32)


def _tensor(*shape: int, dtype: DTypeLike = np.float32) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return shape, np.dtype(dtype)


def _compare(what: str, found: Tensors, expected: Tensors) -> None:
    if found != expected:
        raise WireError(
            f"training program's {what} are {_described(found)}, where its description and its layout "
            f"have {_described(expected)}"
        )


def _described(tensors: Tensors) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (shape, dtype) in sorted(tensors.items()))[:400]


def _one_line(error: Exception) -> str:
    # Where an allocation fails, LiteRT mostly has no words for it.
    wordless = f"{type(error).__name__}, perhaps out of the memory that the trainer may take"
    return (" ".join(str(error).split()) or wordless)[:200]
