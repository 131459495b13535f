import base64
import json
import random
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.layout import Layout
from broker.litert import MAX_BODY_CHARS, MAX_TFLITE_BYTES, LiteRTBody
from broker.program import Program
from host.errors import WireError
from tests.broker.examples import LITERT_BODY as BODY


def test_a_litert_body_survives_the_journey() -> None:
    assert LiteRTBody.from_json(BODY.to_json()) == BODY


def test_the_largest_file_fits_into_a_program_even_if_it_does_not_deflate() -> None:
    body = BODY.model_copy(update={"tflite": random.Random(0).randbytes(MAX_TFLITE_BYTES)})  # noqa: S311
    program = Program(layout=Layout(trainable=((3,),)), runtime="litert", body=body.to_json())
    assert LiteRTBody.from_json(Program.from_bytes(program.to_bytes()).body).tflite == body.tflite


@given(st.integers(0, len(BODY.to_json()) - 1))
@settings(max_examples=50)
def test_a_part_of_a_litert_body_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        LiteRTBody.from_json(BODY.to_json()[:length])


@given(st.text(max_size=200))
@settings(max_examples=50)
def test_any_text_is_a_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        LiteRTBody.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"batch": 0},
        {"batch": 1 << 40},
        {"optimizer_size": 0},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"metrics": []},
        {"metrics": ["accuracy", "loss"]},
        {"metrics": ["loss", "loss"]},
        {"x_shape": [1 << 40]},
        {"x_shape": []},
        {"x_dtype": "string"},
        {"y_shape": [0]},
        {"tflite": "no base64!"},
        {"tflite": ""},
        {"code": "import os"},
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any]) -> None:
    with pytest.raises(WireError, match=next(iter(change)) if "NaN" not in json.dumps(change) else "."):
        LiteRTBody.from_json(json.dumps(json.loads(BODY.to_json()) | change))


def test_a_litert_body_is_bounded_before_it_is_read() -> None:
    with pytest.raises(WireError, match="at most"):
        LiteRTBody.from_json(" " * (MAX_BODY_CHARS + 1))


def with_file(content: bytes) -> str:
    """The body's JSON with something else where its deflated file is."""
    return json.dumps(json.loads(BODY.to_json()) | {"tflite": base64.urlsafe_b64encode(content).decode()})


DEFLATED = zlib.compress(BODY.tflite)
# The last four bytes are the checksum.
OTHER = DEFLATED[:-1] + bytes([DEFLATED[-1] ^ 1])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (BODY.tflite, "damaged"),
        (OTHER, "damaged"),
        (DEFLATED[:-1], "cut short"),
        (DEFLATED[:2], "cut short"),
        (DEFLATED + b"x", "goes on"),
        (zlib.compress(bytes(MAX_TFLITE_BYTES + 1)), "inflates to more than"),
    ],
    ids=["not deflated", "checksum", "without its end", "its head", "trailing", "too large"],
)
def test_a_file_that_does_not_inflate_to_a_whole_one_is_refused(content: bytes, complaint: str) -> None:
    with pytest.raises(WireError, match=f"tflite.*{complaint}"):
        LiteRTBody.from_json(with_file(content))


def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    one = zlib.compressobj(9)
    bomb = b"".join([*(one.compress(bytes(1 << 20)) for _ in range(1 << 6)), one.flush()])
    body = with_file(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="inflates to more than"):
            LiteRTBody.from_json(body)
        assert tracemalloc.get_traced_memory()[1] < 4 * (MAX_TFLITE_BYTES + len(body))
    finally:
        tracemalloc.stop()


def test_what_travels_is_smaller_than_the_file() -> None:
    body = BODY.model_copy(update={"tflite": b"theta" * 1000})
    assert len(body.to_json()) < 500
    assert LiteRTBody.from_json(body.to_json()) == body
