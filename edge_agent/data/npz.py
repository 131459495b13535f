"""Examples from a NumPy .npz file."""

import math
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy

from edge_agent.data.counts import label_counts
from edge_agent.data.examples import AnyArray, Examples, Inspection, check_size
from edge_agent.data.settings import NpzSettings
from host.errors import DataError


def read(settings: NpzSettings) -> Examples:
    """Both arrays, as they are in the file; raises DataError."""
    return Examples(_array(settings, settings.x), _array(settings, settings.y))


def inspect(settings: NpzSettings) -> Inspection:
    """Shape from the header; only the labels are read."""
    with _open(settings) as archive:
        shape, _ = _header(settings, archive, settings.x)
    if not shape:
        raise DataError(f"{settings.path}: array {settings.x!r} is a single value, not one row an example")
    return Inspection(shape[0], shape[1:], label_counts(_array(settings, settings.y)))


def _array(settings: NpzSettings, name: str) -> AnyArray:
    """Read one member; its header is checked before its content is allocated."""
    with _open(settings) as archive:
        shape, dtype = _header(settings, archive, name)
        if not shape:
            raise DataError(f"{settings.path}: array {name!r} is a single value, not one row an example")
        what = f"{settings.path}: array {name!r} of shape {shape}"
        check_size(math.prod(shape) * dtype.itemsize, settings.max_bytes, what)
        try:
            with archive.open(f"{name}.npy") as member:
                array: AnyArray = npy.read_array(member, allow_pickle=False)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{settings.path}: array {name!r} cannot be read ({error}); write it again"
            ) from None
    return array


def _open(settings: NpzSettings) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(settings.path)
    except zipfile.BadZipFile as error:
        raise DataError(f"{settings.path}: no .npz file ({error}); write it with numpy.savez") from None


def _header(
    settings: NpzSettings, archive: zipfile.ZipFile, name: str
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if f"{name}.npy" not in archive.namelist():
        names = ", ".join(sorted(entry.removesuffix(".npy") for entry in archive.namelist())[:20])
        raise DataError(f"{settings.path}: no array {name!r} in it; it has: {names or 'nothing'}")
    try:
        with archive.open(f"{name}.npy") as member:
            version = npy.read_magic(member)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(member)
    except (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{settings.path}: array {name!r} cannot be read ({error}); write it again") from None
    if dtype.hasobject:
        raise DataError(f"{settings.path}: array {name!r} holds Python objects; save numbers or text instead")
    return shape, dtype
