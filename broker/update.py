"""An update as bytes: a msgpack header that names vectors, then the vectors as they lie in memory.

    magic "midge1" | uint32 header length | header | vector | vector ...

The header is `{"layout": digest, "vectors": {name: length}}`; every vector is little-endian float32.
Read by memory map, so that a large update costs no memory.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import msgpack
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.layout import THETA_DTYPE, Theta
from broker.names import Digest, MetricName
from host.errors import WireError

MAGIC = b"midge1"
MAX_HEADER_BYTES = 4096
DELTA = "delta"
_PREFIX = struct.Struct("<6sI")


class Header(BaseModel):
    """What an update holds: vector names with their lengths in elements, in file order."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layout: Digest
    vectors: dict[MetricName, int] = Field(min_length=1, max_length=16)


def encode_update(layout: str, vectors: Mapping[str, Theta]) -> Iterator[bytes]:
    """The parts of an update file: header, then each vector."""
    header = Header(layout=layout, vectors={name: len(vector) for name, vector in vectors.items()})
    packed = msgpack.packb(header.model_dump())
    yield _PREFIX.pack(MAGIC, len(packed)) + packed
    for vector in vectors.values():
        yield vector.astype(THETA_DTYPE, copy=False).tobytes()


def open_update(path: Path) -> tuple[Header, Mapping[str, Theta]]:
    """Map the vectors of an update file, read-only; raises WireError when the file is not one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(_PREFIX.size)
        header, start = _read_header(prefix, file.read(MAX_HEADER_BYTES))
    if size != start + 4 * sum(header.vectors.values()):
        raise WireError(f"update of {size} bytes does not hold the vectors that its header names")
    vectors = {}
    for name, length in header.vectors.items():
        vectors[name] = (
            np.memmap(path, THETA_DTYPE, "r", start, (length,)) if length else np.empty(0, THETA_DTYPE)
        )
        start += 4 * length
    return header, MappingProxyType(vectors)


def _read_header(prefix: bytes, following: bytes) -> tuple[Header, int]:
    if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
        raise WireError("no update: it does not start with its magic")
    length = _PREFIX.unpack(prefix)[1]
    if length > min(MAX_HEADER_BYTES, len(following)):
        raise WireError(f"update header of {length} bytes, {MAX_HEADER_BYTES} at most are read")
    try:
        header = Header.model_validate(msgpack.unpackb(following[:length], max_array_len=64, max_map_len=64))
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException, ValidationError) as error:
        raise WireError(f"update header is not valid: {error}"[:300]) from None
    if any(length < 0 for length in header.vectors.values()):
        raise WireError("update header names a vector of negative length")
    return header, _PREFIX.size + length
