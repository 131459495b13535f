import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.layout import Layout
from broker.messages import MAX_PROGRAM_BYTES
from broker.program import MAX_DEPTH, KerasBody, Program
from host.errors import WireError

PROGRAM = Program(layout=Layout(trainable=((3, 2), (2,)), state=((2,),)), runtime="keras", body='{"ü": 1}')


def test_a_program_survives_the_journey() -> None:
    assert Program.from_bytes(PROGRAM.to_bytes()) == PROGRAM
    assert PROGRAM.to_bytes() == PROGRAM.to_bytes()


@given(st.integers(0, len(PROGRAM.to_bytes()) - 1))
@settings(max_examples=50)
def test_a_part_of_a_program_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        Program.from_bytes(PROGRAM.to_bytes()[:length])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"code": "import os"}, "code"),
        ({"runtime": ""}, "runtime"),
        ({"body": {}}, "body"),
        ({"layout": {"trainable": [[-1]]}}, "extent"),
        ({"layout": {"trainable": [[1 << 40]]}}, "extent"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        Program.from_bytes(json.dumps(PROGRAM.model_dump(mode="json") | change).encode())


def test_a_program_is_bounded_both_ways() -> None:
    with pytest.raises(WireError, match="at most"):
        Program.from_bytes(b" " * (MAX_PROGRAM_BYTES + 1))
    with pytest.raises(WireError, match="at most"):
        PROGRAM.model_copy(update={"body": "x" * MAX_PROGRAM_BYTES}).to_bytes()


def nested(part: Any, depth: int = 1) -> dict[str, Any]:  # noqa: ANN401
    return {"config": [part]} if depth == 1 else {"config": nested(part, depth - 1)}


@pytest.mark.parametrize(
    "part",
    [
        {"class_name": "Lambda", "module": "keras.layers"},
        {"class_name": "__lambda__", "config": {"value": "4wEAAAA="}},
        {"class_name": "Model", "module": "kerasx.evil"},
        {"class_name": "function", "module": "keras.utils", "config": "get_file"},
        {"class_name": "function", "module": "keras.src.utils.file_utils", "config": "get_file"},
        {"class_name": "function", "module": "os", "config": "system"},
        {"class_name": "Own", "module": None, "registered_name": "mine>Own"},
    ],
)
def test_a_keras_body_that_needs_code_is_refused(part: dict[str, Any]) -> None:
    for field in ("model", "compile"):
        with pytest.raises(WireError, match="code"):
            KerasBody.from_json(json.dumps({"model": {}, "compile": {}} | {field: nested(part, 3)}))


def test_a_keras_body_of_keras_is_canonical_json() -> None:
    part = {"class_name": "Dense", "module": "keras.layers", "registered_name": None}
    body = KerasBody(model=nested(part), compile={"loss": {"module": "builtins", "class_name": "function"}})
    assert KerasBody.from_json(body.to_json()) == body
    assert list(json.loads(body.to_json())) == ["compile", "format", "model"]


def test_a_keras_body_nested_too_deep_is_refused() -> None:
    with pytest.raises(WireError, match="deeper"):
        KerasBody.from_json(json.dumps({"model": nested(1, MAX_DEPTH + 1), "compile": {}}))
