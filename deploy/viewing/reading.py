"""What arrives, made safe to show: documents have words of devices in them, and terminals obey some."""

from math import isfinite
from typing import Any

from pydantic_core import from_json

# Beyond, nothing is a count, and Python has no float of it.
LARGEST = 1 << 63


def read(payload: bytes) -> Any:  # noqa: ANN401  JSON
    """Parse JSON; raises ValueError, also for numbers that nothing can be."""
    return _sound(from_json(payload, allow_inf_nan=False))


def _sound(value: Any) -> Any:  # noqa: ANN401  JSON
    match value:
        case str():
            return printable(value)
        case float() if not isfinite(value):
            raise ValueError("a number is not finite")
        case int() if abs(value) > LARGEST:
            raise ValueError("a number is too large")
        case list():
            return [_sound(one) for one in value]
        case dict():
            return {printable(name): _sound(one) for name, one in value.items()}
        case _:
            return value


def printable(text: str) -> str:
    """Text without what moves a cursor, colours, ends a line or turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join(_printable(sign) for sign in text)


def _printable(sign: str) -> str:
    if sign.isprintable():
        return sign
    return " " if sign.isspace() else "\N{REPLACEMENT CHARACTER}"
