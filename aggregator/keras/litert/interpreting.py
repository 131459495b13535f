"""Run the signatures of a training program here, as a device would."""

from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]
from numpy.typing import NDArray

from host.errors import ConfigError
from host.quiet import stderr_closed

SIGNATURES = ("train", "grad", "apply", "evaluate", "infer")


class Interpreted:
    """The functions of a `.tflite`, each from arrays by name to arrays by name."""

    def __init__(self, tflite: bytes, signatures: tuple[str, ...] = SIGNATURES) -> None:
        """Raise ConfigError when LiteRT does not take the file."""
        self._signatures = signatures
        # LiteRT would say there that it has a delegate.
        with stderr_closed():
            try:
                self._open(tflite, OpResolverType.AUTO)
            except (RuntimeError, ValueError):
                # XNNPACK refuses a few graphs; the agents go on without it, too.
                self._open_plainly(tflite)

    def run(self, signature: str, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        outputs: dict[str, NDArray[Any]] = self._runners[signature](**inputs)
        return outputs

    def _open_plainly(self, tflite: bytes) -> None:
        try:
            self._open(tflite, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"LiteRT does not run the converted model: {str(error)[:200]}") from error

    def _open(self, tflite: bytes, resolver: OpResolverType) -> None:
        interpreter = Interpreter(model_content=tflite, num_threads=1, experimental_op_resolver_type=resolver)
        self._runners = {name: interpreter.get_signature_runner(name) for name in self._signatures}
        for name, runner in self._runners.items():
            needed = runner.get_input_details()
            self.run(
                name, **{key: np.zeros(input_["shape"], input_["dtype"]) for key, input_ in needed.items()}
            )
