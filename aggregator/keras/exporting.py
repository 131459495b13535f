"""What `midge export` adds to a program and its first theta: a model to infer with, and words about both."""

from typing import Any

from aggregator.keras.litert.inference import export_inference
from aggregator.keras.litert.operators import operators_in
from aggregator.keras.task import KerasTask
from broker.litert import LiteRTBody
from broker.program import Program

MODEL_FILE = "model.tflite"
LABELS_FILE = "labels.txt"


def inference_files(task: KerasTask) -> dict[str, bytes]:
    """`model.tflite` with the weights at hand, and `labels.txt` where there are classes.

    Raises ConfigError when the model does not convert.
    """
    files = {MODEL_FILE: export_inference(task.model)}
    if task.contract.classes:
        files[LABELS_FILE] = "".join(f"{name}\n" for name in task.contract.classes).encode()
    return files


def described(task: KerasTask, program: Program, inference: bytes) -> dict[str, Any]:
    """Size and make of what was exported, for people to read."""
    body = LiteRTBody.from_json(program.body)
    layout = program.layout
    return {
        "trainable": layout.trainable_size,
        "state": layout.size - layout.trainable_size,
        "optimizer": {"name": type(task.model.optimizer).__name__, "size": body.optimizer_size},
        "takes": f"{body.x_dtype}[{_extents(body.x_shape)}]",
        "gives": f"float32[{_extents(task.model.output_shape[1:])}]",
        "metrics": body.metrics,
        "tflite_bytes": len(body.tflite),
        "operators": {"training": operators_in(body.tflite), "inference": operators_in(inference)},
    }


def _extents(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
