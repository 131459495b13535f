"""A data source, whatever its kind: loaded for a task, inspected without one, watched for changes."""

import hashlib
import math
from pathlib import Path

import numpy as np

from broker.contract import DataContract
from edge_agent.data import idx, images, npz, table
from edge_agent.data.examples import Examples, Inspection, check_size
from edge_agent.data.fit import fit
from edge_agent.data.settings import CsvSettings, DataSettings, IdxSettings, ImageFolderSettings, NpzSettings
from host.errors import DataError


def load(settings: DataSettings, contract: DataContract) -> Examples:
    """Read all examples in the shapes and types of the contract; values are not scaled.

    Raises DataError (file missing, damaged, empty, not finite, larger than `max_bytes`) or its
    ContractError (not what the task asks for). Each says which file, what is wrong and what to do.
    """
    try:
        raw = _read(settings, contract)
    except OSError as error:
        raise _unreadable(settings, error) from None
    needed = len(raw.x) * math.prod(contract.shape) * np.dtype(contract.dtype).itemsize
    check_size(needed, settings.max_bytes, f"{settings.path} as {contract.dtype}")
    return fit(raw, contract, str(settings.path))


def inspect(settings: DataSettings) -> Inspection:
    """Count examples and labels as cheaply as the kind allows; raises DataError."""
    try:
        match settings:
            case NpzSettings():
                return npz.inspect(settings)
            case IdxSettings():
                return idx.inspect(settings)
            case CsvSettings():
                return table.inspect(settings)
            case ImageFolderSettings():
                return images.inspect(settings)
    except OSError as error:
        raise _unreadable(settings, error) from None


def fingerprint(settings: DataSettings) -> str:
    """Digest names, sizes and times of the source's files: it changes with the data; raises DataError."""
    digest = hashlib.sha256()
    try:
        for path in _files(settings):
            status = path.stat()
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ino}\0".encode())
    except OSError as error:
        raise _unreadable(settings, error) from None
    return digest.hexdigest()


def _read(settings: DataSettings, contract: DataContract) -> Examples:
    match settings:
        case NpzSettings():
            return npz.read(settings)
        case IdxSettings():
            return idx.read(settings)
        case CsvSettings():
            raw = table.read(settings)
            return raw if contract.classes is not None else Examples(raw.x, table.targets(settings, raw.y))
        case ImageFolderSettings():
            return images.read(settings, contract)


def _files(settings: DataSettings) -> list[Path]:
    match settings:
        case IdxSettings():
            return [idx.find(settings, settings.images), idx.find(settings, settings.labels)]
        case ImageFolderSettings():
            return [path for folder in images.class_folders(settings) for path in sorted(folder.iterdir())]
        case _:
            return [settings.path]


def _unreadable(settings: DataSettings, error: OSError) -> DataError:
    return DataError(
        f"{error.filename or settings.path}: {error.strerror or error}; check `path` and who may read it"
    )
