"""Examples from two IDX files, the format of MNIST (http://yann.lecun.com/exdb/mnist/, "file formats")."""

import gzip
import math
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from edge_agent.data.counts import label_counts
from edge_agent.data.examples import AnyArray, Examples, Inspection, check_size
from edge_agent.data.settings import IdxSettings
from host.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(settings: IdxSettings) -> Examples:
    """Images and labels, as they are in the files; raises DataError."""
    return Examples(_array(settings, settings.images), _array(settings, settings.labels))


def inspect(settings: IdxSettings) -> Inspection:
    """Shape from the images' header; only the labels are read."""
    path = find(settings, settings.images)
    with _open(path) as file:
        shape, _ = _header(file, path)
    return Inspection(shape[0], shape[1:], label_counts(_array(settings, settings.labels)))


def find(settings: IdxSettings, name: str) -> Path:
    """Find the file of that name, plain or gzip; raises DataError when there is neither."""
    for path in (settings.path / name, settings.path / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{settings.path}: neither {name} nor {name}.gz is there; set `images` and `labels`, or `path`"
    )


def _array(settings: IdxSettings, name: str) -> AnyArray:
    path = find(settings, name)
    with _open(path) as file:
        shape, dtype = _header(file, path)
        size = math.prod(shape) * dtype.itemsize
        check_size(size, settings.max_bytes, f"{path}: array of shape {shape}")
        content = file.read(size + 1)
    if len(content) != size:
        longer = "more" if len(content) > size else "fewer"
        raise DataError(f"{path}: {longer} bytes than its header says, it is damaged; copy it again")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES or not start[3]:  # noqa: PLR2004
        raise DataError(
            f"{path}: no IDX file, it starts with {start.hex() or 'nothing'}; check `images` and `labels`"
        )
    extents = file.read(4 * start[3])
    if len(extents) < 4 * start[3]:
        raise DataError(f"{path}: ends in its header, it is damaged; copy it again")
    return struct.unpack(f">{start[3]}I", extents), np.dtype(_DTYPES[start[2]])


@contextmanager
def _open(path: Path) -> "Iterator[IO[bytes]]":
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield cast("IO[bytes]", file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip ({error}); copy it again") from None
