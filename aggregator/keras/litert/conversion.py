"""From traced functions to a `.tflite` of builtin operators."""

import re
import tempfile
from typing import Any

import tensorflow as tf

from aggregator.keras.litert.compact import without_names
from host.errors import ConfigError
from host.quiet import stderr_closed

# How the converter says which operator it has no builtin for, and where in the model it stands.
_REFUSED = re.compile(r"error: (?P<where>.*?)'tf\.(?P<operator>\w+)' op is neither")
_PATH = re.compile(r'"([^"@]+)@')
# What to use where more can be said than "another layer".
_INSTEAD = {"Conv2DBackpropFilter": "groups=1, DepthwiseConv2D or SeparableConv2D in its place"}
MAX_SHOWN = 200


def convert(functions: dict[str, Any]) -> bytes:
    """Convert concrete functions by name; raises ConfigError that names the operator in the way."""
    _check_captures(functions)
    module = tf.Module()
    module.functions = list(functions.values())
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with tempfile.TemporaryDirectory(prefix="midge-litert-") as folder:
        try:
            # What matters of the converter's many remarks stands in its exception, too.
            with stderr_closed():
                tf.saved_model.save(module, folder, signatures=functions, options=options)
                converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=sorted(functions))
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
                tflite = bytes(converter.convert())
        except Exception as error:
            raise ConfigError(_explained(str(error))) from error
    return without_names(tflite)


def _check_captures(functions: dict[str, Any]) -> None:
    held = {variable.name for function in functions.values() for variable in function.graph.variables}
    if held:
        raise ConfigError(
            f"the model keeps {', '.join(sorted(held))} outside theta, as layers do that draw random "
            "numbers; use Dropout for them"
        )


def _explained(message: str) -> str:
    found = _REFUSED.search(message)
    if found is None:
        return f"the model does not convert: {message.strip()[:MAX_SHOWN]}"
    # Of calls inside calls the longest path is the one with the layer's name.
    where = max(_PATH.findall(found["where"]), key=len, default="the model").removeprefix("gradients/")
    instead = _INSTEAD.get(found["operator"], "another layer in its place")
    return f"{where} ({found['operator']}): LiteRT has no builtin operator for it; use {instead}"
