"""Keras as it is to be used here: on TensorFlow, on the processor, bit by bit repeatable."""

import os

from host.quiet import stderr_closed

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Of all that TensorFlow says of itself, only what ends the process.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with stderr_closed():
    import keras
    import tensorflow as tf

# Nor that a process which builds one task after the other traces each anew.
tf.get_logger().setLevel("ERROR")

__all__ = ["be_deterministic", "keras"]


def be_deterministic() -> None:
    """One thread in and between operations, as on the devices."""
    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
