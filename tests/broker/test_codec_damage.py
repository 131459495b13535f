"""A sample of `make fuzz-codec`, and what it found."""

import json
import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.layout import MAX_RANK
from broker.litert import LiteRTBody
from broker.program import KerasBody, Program
from broker.topics import Topics
from host.errors import WireError
from tests.broker.examples import LITERT_BODY
from tests.fuzz.targets import Target, targets

SAMPLE = 300
TARGETS = {target.name: target for target in targets()}
TOPICS = Topics("lab")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_damaged_is_read_or_a_wire_error(name: str) -> None:
    target: Target = TARGETS[name]
    taken = [target.takes(target.make(Random(number))) for number in range(SAMPLE)]  # noqa: S311 - no secret
    assert True in taken, "damage that leaves nothing whole tries little"
    assert False in taken


@given(st.sampled_from(["layout", "runtime", "body", "novelty"]), JSON)
def test_a_program_with_any_value_replaced_is_a_program_or_a_wire_error(key: str, value: object) -> None:
    fields = {"layout": {"trainable": [[3]], "state": []}, "runtime": "keras", "body": "{}"} | {key: value}
    try:
        program = Program.from_bytes(json.dumps(fields).encode())
    except WireError:
        return
    assert Program.from_bytes(program.to_bytes()) == program


@given(st.sampled_from(["class_name", "module", "registered_name", "config"]), JSON)
def test_a_keras_body_with_anything_in_a_part_is_a_body_or_a_wire_error(key: str, value: object) -> None:
    content = json.dumps({"model": {"config": [{"class_name": "Dense", key: value}]}, "compile": {}})
    try:
        body = KerasBody.from_json(content)
    except WireError:
        return
    assert body.model["config"][0].keys() == {"class_name", key}


@given(st.text(max_size=60) | st.text(max_size=60).map(f"{TOPICS.root}/devices/".__add__))
def test_any_text_is_a_topic_of_the_tree_or_none(topic: str) -> None:
    address = TOPICS.parse(topic)
    assert address is None or TOPICS.topic(address.branch, **address.fields) == topic


def test_a_shape_of_more_dimensions_than_an_array_can_have_is_refused() -> None:
    def program(rank: int) -> bytes:
        fields = {"layout": {"trainable": [[1] * rank]}, "runtime": "keras", "body": ""}
        return json.dumps(fields).encode()

    assert Program.from_bytes(program(MAX_RANK)).layout.size == 1
    with pytest.raises(WireError, match=r"layout\.trainable\.0: Tuple should have at most 64 items"):
        Program.from_bytes(program(MAX_RANK + 1))


LAYOUT: dict[str, Any] = {"trainable": [[3]], "state": []}
PROGRAM = {"layout": LAYOUT, "runtime": "litert", "body": ""}
WRONG = ["", *[[]] * 20_000]


def _read_litert(content: bytes) -> object:
    return LiteRTBody.from_json(content.decode())


@pytest.mark.parametrize(
    ("read", "fields"),
    [
        (Program.from_bytes, PROGRAM | {"layout": {"trainable": [WRONG]}}),
        (Program.from_bytes, PROGRAM | {"layout": {"trainable": WRONG}}),
        (Program.from_bytes, PROGRAM | {"layout": LAYOUT | {"state": WRONG}}),
        (_read_litert, json.loads(LITERT_BODY.to_json()) | {"metrics": WRONG}),
        (_read_litert, json.loads(LITERT_BODY.to_json()) | {"x_shape": WRONG}),
    ],
    ids=["extents", "shapes", "state", "metrics", "x_shape"],
)
def test_many_wrong_items_are_one_complaint(
    read: Callable[[bytes], object], fields: dict[str, object]
) -> None:
    content = json.dumps(fields).encode()
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
