"""A `.tflite` without what nobody reads: it travels to every device."""

from typing import Any

import flatbuffers  # type: ignore[import-untyped]
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]

# Before a buffer of constants, as LiteRT's schema.fbs asks and its Python classes do not.
ALIGNMENT = 16
IDENTIFIER = b"TFL3"


def without_names(tflite: bytes) -> bytes:
    """Leave out the names of tensors, which say where in TensorFlow's graph each came from.

    Signatures have names of their own for what goes in and out, and keep them.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tflite))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = None
    model.buffers = [_Aligned(buffer.data, buffer.offset, buffer.size) for buffer in model.buffers]
    builder = flatbuffers.Builder(len(tflite))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _Aligned(schema.BufferT):  # type: ignore[misc]  # LiteRT ships no types
    def Pack(self, builder: Any) -> int:  # noqa: ANN401, N802  as its base class calls it
        if self.data is not None:
            builder.Prep(ALIGNMENT, len(self.data))
        offset: int = super().Pack(builder)
        return offset
