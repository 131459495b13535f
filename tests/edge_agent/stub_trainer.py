"""A trainer that speaks the protocol and trains nothing: the theta file's text says how to behave."""

import os
import sys
import time
from pathlib import Path

from host.children import Emit, Json, serve

UPDATE = bytes(range(250)) * 30


def handle(request: Json, emit: Emit) -> None:
    if request["verb"] == "inspect":
        emit({"event": "inspected", "examples": 7})
        return
    behaviour = Path(request["theta"]).read_text().strip("-")
    if behaviour == "fail":
        emit({"event": "failed", "reason": "contract", "detail": "labels outside of the classes"})
    elif behaviour == "garble":
        emit({"event": "failed", "reason": "data", "detail": "caf\udce9.png"})
    elif behaviour == "die":
        os._exit(3)
    elif behaviour == "nonsense":
        emit({"event": "trained", "examples": 0})
    elif behaviour == "mute":
        time.sleep(60)
    elif behaviour == "flood":
        flood(emit)
    elif request["verb"] == "evaluate":
        for _ in range(2 if behaviour == "twice" else 1):
            emit({"event": "evaluated", "metrics": {"accuracy": [3, 4]}})
    else:
        train(request, emit, hangs=behaviour == "hang")


def train(request: Json, emit: Emit, *, hangs: bool) -> None:
    emit({"event": "progress", "progress": 0.5, "examples_per_s": 10.0})
    emit({"event": "measured", "examples_per_s": 12.5})
    while hangs:
        time.sleep(60)
    Path(request["update"]).write_bytes(UPDATE + str(request["settings"]["seed"]).encode())
    emit({"event": "trained", "examples": 7, "metrics": {"loss": [3.5, 7]}, "validation": {}, "seconds": 0.5})


def flood(emit: Emit) -> None:
    """All that a child can say without end, at once."""
    while True:
        sys.stderr.write("y" * 100_000)
        for _ in range(100):
            emit({"event": "progress", "progress": 0.5, "padding": "x" * 1000})


if __name__ == "__main__":
    serve(handle)
