"""A model with its weights inside, as a `.tflite` that only infers: for whatever runs LiteRT."""

import numpy as np
import tensorflow as tf

from aggregator.keras.litert.conversion import convert
from aggregator.keras.litert.gate import TOLERANCE
from aggregator.keras.litert.interpreting import Interpreted
from aggregator.keras.litert.objective import loss_of
from aggregator.keras.litert.rebuild import rebuilt
from aggregator.keras.litert.samples import Samples
from aggregator.keras.litert.stand_ins import builtin_functions
from aggregator.keras.litert.tracing import PureModel
from aggregator.keras.weights import Model, layout_of, theta_of
from host.errors import ConfigError

SIGNATURE = "infer"
EXAMPLES = 4
SEED = 40
ROUNDING = 1e-6


def export_inference(model: Model) -> bytes:
    """Convert a compiled model for one example at a time: `infer(x[1,...]) -> output[1,...]`.

    What leaves gives what Keras gives. Raises ConfigError. The model is left as it is.
    """
    copy = rebuilt(model)
    example = tf.TensorSpec((1, *copy.input_shape[1:]), copy.inputs[0].dtype, "x")

    pure, weights = PureModel(copy), layout_of(copy).unflatten(theta_of(copy))

    def infer(x: object) -> dict[str, object]:
        constants = [tf.constant(weight) for weight in weights]
        return {"output": pure.run(constants, x, training=False).output}

    with builtin_functions():
        function = tf.function(infer, input_signature=[example], autograph=False).get_concrete_function()
        tflite = convert({SIGNATURE: function})
    _check(tflite, copy)
    return tflite


def _check(tflite: bytes, model: Model) -> None:
    """Compare with Keras on some random examples; raises ConfigError."""
    program = Interpreted(tflite, (SIGNATURE,))
    x, _ = Samples(model, loss_of(model)).draw(EXAMPLES, SEED)
    for example in np.split(x, EXAMPLES):
        expected = np.asarray(model(example, training=False))
        error = float(np.linalg.norm(program.run(SIGNATURE, x=example)["output"] - expected))
        if not error <= TOLERANCE * float(np.linalg.norm(expected)) + ROUNDING:
            raise ConfigError(
                f"the output of {model.name} in LiteRT differs from Keras' by {error:.1e}: "
                "save the model as .keras, and use Keras where it runs"
            )
