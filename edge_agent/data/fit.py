"""Raw arrays made to fit the data contract: converted where nothing is lost, refused otherwise."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from broker.contract import DataContract
from edge_agent.data.examples import AnyArray, Examples
from host.errors import DataError

# Whole numbers up to this size are exact in float32.
EXACT_IN_FLOAT32 = 1 << 24


class ContractError(DataError):
    """The data can be read but is not what the task asks for."""


def fit(raw: Examples, contract: DataContract, where: str) -> Examples:
    """Give examples the contract's shapes and types; raises DataError, ContractError, naming `where`."""
    if len(raw.x) != len(raw.y):
        raise DataError(f"{where}: {len(raw.x)} inputs but {len(raw.y)} labels; each input needs its label")
    if not len(raw.x):
        raise DataError(f"{where}: there is no example in it; put data there")
    x = _convert(_reshape(raw.x, contract.shape, f"{where}: inputs"), contract.dtype, f"{where}: inputs")
    if contract.classes is not None:
        return Examples(x, class_indexes(raw.y, contract.classes, where))
    targets = _reshape(raw.y, contract.target_shape, f"{where}: targets")
    return Examples(x, _convert(targets, "float32", f"{where}: targets"))


def class_indexes(labels: AnyArray, classes: tuple[str, ...], where: str) -> NDArray[np.int32]:
    """Labels, text or whole numbers, as indexes into `classes`: int32 (n,); raises ContractError."""
    labels = _reshape(labels, (), f"{where}: labels")
    if labels.dtype.kind == "U":
        return _from_text(labels, classes, where)
    if labels.dtype.kind not in "iub":
        raise ContractError(
            f"{where}: labels are {labels.dtype}; the task has classes, so whole numbers are needed"
        )
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < len(classes):
            raise ContractError(
                f"{where}: label {label} is no index of the task's {len(classes)} classes; mend the labels"
            )
    return labels.astype(np.int32)


def _from_text(labels: AnyArray, classes: tuple[str, ...], where: str) -> NDArray[np.int32]:
    """Class names; only when none of the labels is one, whole numbers."""
    index = {name: i for i, name in enumerate(classes)}
    texts, inverse = np.unique(labels, return_inverse=True)
    if not any(text in index for text in texts) and all(text.isdecimal() for text in texts):
        index = {text: int(text) for text in texts if int(text) < len(classes)}
    for text in texts:
        if text not in index:
            known = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")  # noqa: PLR2004  fits a line
            raise ContractError(f"{where}: label {str(text)!r} is none of the task's classes ({known})")
    return np.array([index[text] for text in texts], np.int32)[inverse]


def _reshape(values: AnyArray, shape: tuple[int, ...], what: str) -> AnyArray:
    """Flat and shaped are the same thing, and so are extents of 1; anything else is a misfit."""
    here = values.shape[1:]
    same = [n for n in here if n != 1] == [n for n in shape if n != 1]
    flat = math.prod(here) == math.prod(shape) and (len(here) == 1 or len(shape) == 1)
    if not (same or flat):
        raise ContractError(
            f"{what} have shape {here}, the task asks for {shape}; convert them on the device"
        )
    return values.reshape(len(values), *shape)


def _convert(values: AnyArray, dtype: str, what: str) -> AnyArray:
    """Change the type if every value survives, floats being rounded to float32 at most."""
    if values.dtype.kind not in "fiub":
        raise ContractError(
            f"{what} are {values.dtype}, the task asks for {dtype}; convert them on the device"
        )
    low, high = values.min(initial=0), values.max(initial=0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError(f"{what} contain values that are not finite (NaN or infinite); mend or remove them")
    if not _survives(values, float(low), float(high), np.dtype(dtype)):
        raise ContractError(
            f"{what} are {values.dtype} from {low} to {high}, which {dtype}, as the task asks, cannot hold"
        )
    return np.ascontiguousarray(values, dtype)


def _survives(values: AnyArray, low: float, high: float, dtype: np.dtype[Any]) -> bool:
    if np.can_cast(values.dtype, dtype):
        return True
    if dtype.kind == "f":
        bound = EXACT_IN_FLOAT32 if values.dtype.kind in "iu" else float(np.finfo(np.float32).max)
        return -bound <= low and high <= bound
    limits = np.iinfo(dtype)
    whole = values.dtype.kind != "f" or bool((values == np.trunc(values)).all())
    return whole and limits.min <= low and high <= limits.max
