import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.control import Reply
from broker.messages import (
    MINOR,
    AgentState,
    Announcement,
    Federation,
    Grant,
    Heartbeat,
    Inbox,
    Invite,
    Message,
    Offer,
    Receipt,
)
from broker.wire import MAX_MESSAGE_BYTES, decode, encode
from host.errors import WireError
from tests.broker.examples import CONNECTION, EXAMPLES, TRANSFER

HEARTBEAT = Heartbeat(connection=CONNECTION, state=AgentState.IDLE)


def fields_of(message: Message) -> dict[str, Any]:
    return message.model_dump(exclude_none=True)


def pack(fields: object) -> bytes:
    return bytes(msgpack.packb(fields))


by_name = pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)


def test_there_is_an_example_of_every_message() -> None:
    assert {type(example) for example in EXAMPLES} == set(Message.__subclasses__())


@by_name
def test_decode_undoes_encode(message: Message) -> None:
    assert decode(type(message), encode(message)) == message


@by_name
def test_every_prefix_of_a_message_is_a_wire_error(message: Message) -> None:
    payload = encode(message)
    for length in range(len(payload)):
        with pytest.raises(WireError):
            decode(type(message), payload[:length])


@by_name
def test_bytes_after_a_message_are_a_wire_error(message: Message) -> None:
    with pytest.raises(WireError, match="extra data"):
        decode(type(message), encode(message) + b"\x00")


@by_name
def test_an_unknown_key_of_our_minor_is_refused(message: Message) -> None:
    with pytest.raises(WireError, match="novelty: Extra inputs are not permitted"):
        decode(type(message), pack({**fields_of(message), "novelty": 1}))


@by_name
def test_an_unknown_key_of_a_higher_minor_is_dropped(message: Message) -> None:
    newer = {**fields_of(message), "minor": MINOR + 1, "novelty": {"deep": [1, 2]}}
    assert decode(type(message), pack(newer)) == message.model_copy(update={"minor": MINOR + 1})


def test_unknown_keys_inside_maps_and_lists_of_a_higher_minor_are_dropped() -> None:
    reply = next(example for example in EXAMPLES if isinstance(example, Reply))
    newer = fields_of(reply) | {"minor": MINOR + 1}
    # `text` is a key that the outer map knows and the inner does not.
    newer["runs"] = [fields_of_part | {"text": 1, "novelty": 2} for fields_of_part in newer["runs"]]
    assert decode(Reply, pack(newer)) == reply.model_copy(update={"minor": MINOR + 1})

    announcement = next(example for example in EXAMPLES if isinstance(example, Announcement))
    newer = fields_of(announcement) | {"minor": MINOR + 1}
    newer["assignment"]["theta"]["session"] = 5
    newer["assignment"]["contract"]["novelty"] = 6
    assert decode(Announcement, pack(newer)) == announcement.model_copy(update={"minor": MINOR + 1})


def test_unknown_keys_inside_a_message_of_our_minor_are_refused() -> None:
    announcement = next(example for example in EXAMPLES if isinstance(example, Announcement))
    fields = fields_of(announcement)
    fields["assignment"]["theta"]["novelty"] = 5
    with pytest.raises(WireError, match=r"assignment\.theta\.novelty: Extra inputs"):
        decode(Announcement, pack(fields))


def test_a_higher_minor_does_not_excuse_a_wrong_value() -> None:
    with pytest.raises(WireError, match="progress"):
        decode(Heartbeat, pack({**fields_of(HEARTBEAT), "minor": MINOR + 1, "progress": 2.0, "novelty": 1}))


@pytest.mark.parametrize(
    "message",
    [example for example in EXAMPLES if isinstance(example, (Invite, Grant, Receipt))],
    ids=lambda message: type(message).__name__,
)
def test_an_inbox_message_is_told_by_its_type(message: Message) -> None:
    kind: Any = Inbox
    assert decode(kind, encode(message)) == message
    newer = {**fields_of(message), "minor": MINOR + 1, "novelty": 1}
    assert decode(kind, pack(newer)) == message.model_copy(update={"minor": MINOR + 1})


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (b"\xc0", "a map was expected, not NoneType"),
        (b"\x90", "a map was expected, not tuple"),
        (b"\x01", "a map was expected, not int"),
        (b"\x81\x01\x01", "no msgpack: int is not allowed for map key"),
        (b"\x81\xa1\xff\x01", "no msgpack: 'utf-8' codec"),
        (b"\x81\xa1a\xd4\x05\x00", "no msgpack: 2 exceeds max_ext_len"),
        (
            b"\xde\x02\x00" + b"".join(pack(f"k{i}") + b"\x01" for i in range(512)),
            "no msgpack: 512 exceeds max_map_len",
        ),
        (b"\x91" * 5000, "no msgpack"),
        (b"\x80", "connection: Field required"),
        (b"{" * 10, "no msgpack|a map was expected"),
        (bytes(MAX_MESSAGE_BYTES + 1), "message of 262145 bytes, at most 262144 are read"),
    ],
)
def test_bad_bytes_are_a_wire_error_that_says_why(payload: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        decode(Heartbeat, payload)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("connection", "0123", "connection: String should match pattern"),
        ("connection", CONNECTION + "\n", "connection: String should match pattern"),
        ("connection", b"0123456789abcdef", "connection: Input should be a valid string"),
        ("state", "asleep", "state: Input should be 'idle'"),
        ("progress", "0.5", "progress: Input should be a valid number"),
        ("progress", float("nan"), "progress: Input should be a finite number"),
        ("progress", 1.5, "progress: Input should be less than or equal to 1"),
        ("memory_bytes", 1.5, "memory_bytes: Input should be a valid integer"),
        ("memory_bytes", -1, "memory_bytes: Input should be greater than or equal to 0"),
        ("memory_bytes", True, "memory_bytes: Input should be a valid integer"),
        ("temperature_c", float("inf"), "temperature_c: Input should be a finite number"),
        ("round", 0, "round: Input should be greater than or equal to 1"),
        ("minor", -1, "minor: Input should be greater than or equal to 0"),
        ("minor", True, "minor: Input should be a valid integer"),
    ],
)
def test_a_wrong_value_is_a_wire_error_that_names_it(key: str, value: object, words: str) -> None:
    with pytest.raises(WireError, match=words):
        decode(Heartbeat, pack({**fields_of(HEARTBEAT), key: value}))


def test_more_metrics_than_the_limit_are_refused() -> None:
    offer = next(example for example in EXAMPLES if isinstance(example, Offer))
    metrics = {f"m{index}": (1.0, 1.0) for index in range(65)}
    with pytest.raises(WireError, match="metrics: Dictionary should have at most 64 items"):
        decode(Offer, pack({**fields_of(offer), "metrics": metrics}))


def test_more_granted_chunks_than_the_limit_are_refused() -> None:
    fields = {"run": "r", "round": 1, "transfer": TRANSFER, "indexes": list(range(65))}
    with pytest.raises(WireError, match="indexes: Tuple should have at most 64 items"):
        decode(Grant, pack(fields))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x81\xa1a\xdd\x00\x00\x10\x00",
        b"\xdc\x10\x00" * 1000,
        b"\xdc\x10\x00" * 80_000,
        b"\xde\x01\x00\xa1a" * 50_000,
    ],
    ids=lambda payload: payload[:6].hex(),
)
def test_a_huge_claimed_length_allocates_little(payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode(Federation, payload)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_wire_error(payload: bytes) -> None:
    try:
        decode(Heartbeat, payload)
    except WireError as error:
        assert len(str(error)) < 400  # noqa: PT017 - other bytes are valid


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_message_with_any_value_replaced_is_a_message_or_a_wire_error(
    message: Message, data: st.DataObject
) -> None:
    fields = fields_of(message)
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(VALUES)
    try:
        decoded = decode(type(message), pack(fields))
    except WireError:
        return
    assert decode(type(message), encode(decoded)) == decoded


@given(
    progress=st.floats(0, 1),
    memory=st.integers(0, (1 << 64) - 1),
    temperature=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    state=st.sampled_from(AgentState),
)
def test_numbers_cross_the_wire_exactly(
    progress: float, memory: int, temperature: float | None, state: AgentState
) -> None:
    heartbeat = HEARTBEAT.model_copy(
        update={"progress": progress, "memory_bytes": memory, "temperature_c": temperature, "state": state}
    )
    assert decode(Heartbeat, encode(heartbeat)) == heartbeat
