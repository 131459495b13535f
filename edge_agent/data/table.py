"""Examples from a CSV file with a header."""

import csv
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from edge_agent.data.counts import text_counts
from edge_agent.data.examples import MAX_LABELS, AnyArray, Examples, Inspection, check_size
from edge_agent.data.settings import CsvSettings
from host.errors import DataError

# As long as a data contract allows the name of a class.
MAX_LABEL_LENGTH = 64

Row = tuple[int, list[str]]


class _Columns(NamedTuple):
    names: tuple[str, ...]
    inputs: tuple[int, ...]
    target: int


def read(settings: CsvSettings) -> Examples:
    """Inputs float64 (n, columns); labels as text, or targets float64, (n,); raises DataError."""
    numbers, labels = array("d"), []
    with _open(settings) as (columns, rows):
        for line, fields in rows:
            numbers.extend(_number(settings, line, columns.names[i], fields[i]) for i in columns.inputs)
            labels.append(_label(settings, line, fields[columns.target]))
            check_size(
                numbers.itemsize * len(numbers), settings.max_bytes, f"{settings.path} up to line {line}"
            )
    x = np.frombuffer(numbers, np.float64) if numbers else np.empty(0)
    return Examples(x.reshape(-1, len(columns.inputs)), np.array(labels, dtype=np.str_))


def targets(settings: CsvSettings, texts: AnyArray) -> AnyArray:
    """Turn the texts of the target column into numbers, float64 (n,); raises DataError."""
    numbers = [_number(settings, line, settings.target, text) for line, text in enumerate(texts, start=2)]
    return np.array(numbers, np.float64)


def inspect(settings: CsvSettings) -> Inspection:
    """Count rows and labels, without turning anything into numbers."""
    examples, counts = 0, Counter[str]()
    with _open(settings) as (columns, rows):
        for line, fields in rows:
            examples += 1
            if len(counts) <= MAX_LABELS:
                counts[_label(settings, line, fields[columns.target])] += 1
    return Inspection(examples, (len(columns.inputs),), text_counts(counts))


@contextmanager
def _open(settings: CsvSettings) -> Iterator[tuple[_Columns, Iterator[Row]]]:
    check_size(settings.path.stat().st_size, settings.max_bytes, str(settings.path))
    with settings.path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=settings.delimiter, strict=True)
        try:
            columns = _columns(settings, next(reader, []))
            yield columns, _rows(settings, reader, len(columns.names))
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"{settings.path} near line {reader.line_num}: no valid CSV in UTF-8 ({error})"
            ) from None


def _columns(settings: CsvSettings, names: list[str]) -> _Columns:
    if not names:
        raise DataError(f"{settings.path}: empty; a header with column names is needed")
    if len(set(names)) != len(names):
        raise DataError(f"{settings.path}: two columns of the header have one name; rename one")
    wanted = settings.columns or tuple(name for name in names if name != settings.target)
    for name in (settings.target, *wanted):
        if name not in names:
            raise DataError(f"{settings.path}: no column {name!r}; the header has {', '.join(names)[:200]}")
    if not wanted:
        raise DataError(f"{settings.path}: no column besides the target; the model needs inputs")
    return _Columns(tuple(names), tuple(names.index(name) for name in wanted), names.index(settings.target))


def _rows(settings: CsvSettings, reader: Iterator[list[str]], width: int) -> Iterator[Row]:
    for line, fields in enumerate(reader, start=2):
        if fields and len(fields) != width:
            raise DataError(
                f"{settings.path} row {line}: {len(fields)} fields, the header has {width}; mend it"
            )
        if fields:
            yield line, fields


def _label(settings: CsvSettings, line: int, text: str) -> str:
    if len(text) > MAX_LABEL_LENGTH:
        raise DataError(
            f"{settings.path} row {line}: label of {len(text)} characters; is `target` the right column?"
        )
    return text


def _number(settings: CsvSettings, line: int, column: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(
            f"{settings.path} row {line}, column {column!r}: {text[:40]!r} is no number; mend or leave it out"
        ) from None
