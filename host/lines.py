"""Log records as fields: JSON (https://jsonlines.org), or key=value as in https://brandur.org/logfmt."""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from math import inf
from typing import TypeAlias

MAX_TEXT = 2000
# Of an exception the end says most.
MAX_TRACE = 8000

Value: TypeAlias = bool | int | float | str
Fields: TypeAlias = Mapping[str, object]
Write: TypeAlias = Callable[[Mapping[str, Value]], str]

_BARE = re.compile(r'[^\s"=\\]+')
# What logging itself has put on a record, and what other handlers leave there.
_NO_FIELDS = {*vars(logging.makeLogRecord({})), "message", "asctime"}


class FieldsFormatter(logging.Formatter):
    """A line a record: when, how bad, whose, what work is in hand, and what it is about."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, write: Write, ids: Fields, *, timed: bool) -> None:
        super().__init__()
        self.converter = time.gmtime
        self._write = write
        self._ids = ids
        self._timed = timed
        self.in_hand: Fields = {}
        """The ids of what is being worked on, replaced as a whole."""

    def format(self, record: logging.LogRecord) -> str:
        """What a record says, and the fields of its `extra`; those that are None are left out."""
        own = {key: value for key, value in vars(record).items() if key not in _NO_FIELDS}
        fields: dict[str, object] = {
            "time": self.formatTime(record) if self._timed else None,
            "level": record.levelname.lower(),
            **self._ids,
            **self.in_hand,
            **own,
            "logger": record.name,
            "message": record.getMessage(),
        }
        bounded = {key: _bounded(value) for key, value in fields.items() if value is not None}
        if record.exc_info:
            bounded["error"] = self.formatException(record.exc_info)[-MAX_TRACE:]
        return self._write(bounded)


def as_json(fields: Mapping[str, Value]) -> str:
    """One JSON object."""
    return _visible(json.dumps(fields, ensure_ascii=False))


def as_keyvalue(fields: Mapping[str, Value]) -> str:
    """Pairs; what is no single word is quoted and escaped like a JSON string."""
    return " ".join(f"{key}={_word(value)}" for key, value in fields.items())


def _word(value: Value) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _BARE.fullmatch(value) and value.isprintable():
        return value
    return _visible(json.dumps(value, ensure_ascii=False))


def _visible(text: str) -> str:
    """Escape what a terminal obeys, what reverses a text, and what cannot be encoded."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def _bounded(value: object) -> Value:
    if isinstance(value, bool | int):
        return value
    # JSON knows no infinity.
    if isinstance(value, float) and abs(value) < inf:
        return value
    text = str(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
