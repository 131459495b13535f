"""msgpack to messages and back: a whole valid message, or `WireError`, in bounded memory."""

from functools import cache
from typing import Any, TypeVar

import msgpack
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from broker.messages import MINOR, Message
from host.errors import WireError

MAX_MESSAGE_BYTES = 256 << 10
# A msgpack header can claim far more items than follow; these bound what a claim allocates.
MAX_ITEMS = 4096
MAX_KEYS = 256

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """One msgpack map, without the keys that are None."""
    return bytes(msgpack.packb(message.model_dump(exclude_none=True)))


def decode(kind: type[M], payload: bytes) -> M:
    """Read one message of `kind` (a model, or a union of models); raises WireError and nothing else."""
    fields = _unpack(payload)
    try:
        message: M = _validate(_adapter(kind), fields)
    except ValidationError as error:
        raise WireError(_describe(error.errors(include_url=False)[0])) from None
    return message


def _unpack(payload: bytes) -> dict[str, Any]:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise WireError(f"message of {len(payload)} bytes, at most {MAX_MESSAGE_BYTES} are read")
    try:
        _walk(payload)
        fields = msgpack.unpackb(
            payload,
            use_list=False,
            strict_map_key=True,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_KEYS,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"no msgpack: {error or type(error).__name__}") from None
    if not isinstance(fields, dict):
        raise WireError(f"a map was expected, not {type(fields).__name__}")
    return fields


def _walk(payload: bytes) -> None:
    """Raise unless one whole value is there: nested claims of a cut one would each be allocated."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(payload), 1))
    unpacker.feed(payload)
    unpacker.skip()


@cache
def _adapter(kind: type[M]) -> TypeAdapter[M]:
    return TypeAdapter(kind)


def _validate(adapter: TypeAdapter[M], fields: dict[str, Any]) -> M:
    try:
        return adapter.validate_python(fields)
    except ValidationError as error:
        minor = fields.get("minor")
        if not isinstance(minor, int) or minor <= MINOR:
            raise
        return adapter.validate_python(_without_unknown(fields, error))


def _without_unknown(fields: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """Drop the keys that a newer sender may have and we do not know."""
    for fault in error.errors(include_url=False):
        if fault["type"] == "extra_forbidden":
            _drop(fields, fault["loc"])
    return fields


def _drop(fields: dict[str, Any], location: tuple[Any, ...]) -> None:
    """Remove the key at `location` from freshly unpacked fields."""
    *parents, key = location
    level: Any = fields
    for parent in parents:
        if isinstance(level, tuple) or (isinstance(level, dict) and parent in level):
            level = level[parent]
        # else it is the tag of a union, which names no level of the fields
    if isinstance(level, dict):
        level.pop(key, None)


def _describe(fault: ErrorDetails) -> str:
    where = ".".join(str(level) for level in fault["loc"]) or "message"
    return f"{where}: {fault['msg']}"[:300]
