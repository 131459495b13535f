"""A `.tflite` with other seeds: LiteRT takes no seed at run time, it stands in the operators of the file."""

import struct
from collections.abc import Iterator

import numpy as np

from host.errors import WireError

# The vtable slot of the field `seed`, int64, in RandomOptions of LiteRT's schema.fbs.
SEED_SLOT = 4


def reseeded(tflite: bytes, seed: int) -> bytes:
    """Give every random operator a seed that follows from `seed`; raises WireError when one takes none.

    The operators' second seeds, by which they differ from each other, stay.
    """
    changed = bytearray(tflite)
    # Both seeds 0 would mean: random from the operating system.
    value = int(np.random.default_rng((seed, 1)).integers(1, 1 << 62))
    try:
        for place in _seed_places(changed):
            struct.pack_into("<q", changed, place, value)
    except (struct.error, ValueError, TypeError, IndexError, AttributeError) as error:
        raise WireError(f"training program is damaged: its operators cannot be listed ({error})") from None
    return bytes(changed)


def _seed_places(tflite: bytearray) -> Iterator[int]:
    """Where in the file the seeds lie."""
    # Imported here: it takes 4 MB, and only programs that draw random numbers need it.
    from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]  # noqa: PLC0415

    model = schema.Model.GetRootAs(tflite)
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for operator in map(graph.Operators, range(graph.OperatorsLength())):
            if operator.BuiltinOptionsType() == schema.BuiltinOptions.RandomOptions:
                options = operator.BuiltinOptions()
                if not options.Offset(SEED_SLOT):
                    raise WireError(
                        "training program draws random numbers without a seed: give its operators one"
                    )
                yield options.Pos + options.Offset(SEED_SLOT)
