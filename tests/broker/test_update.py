import struct
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from broker.layout import Theta
from broker.update import DELTA, MAGIC, encode_update, open_update
from host.errors import WireError
from tests.broker.examples import DIGEST

VECTORS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    arrays.arrays(np.float32, st.integers(0, 20)),
    min_size=1,
    max_size=4,
)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "update"
    path.write_bytes(content)
    return path


def with_header(header: Any, rest: bytes = b"") -> bytes:  # noqa: ANN401 - any header, that is the point
    packed = msgpack.packb(header)
    return struct.pack("<6sI", MAGIC, len(packed)) + bytes(packed) + rest


@given(VECTORS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_update_is_read_as_it_was_written(tmp_path: Path, vectors: dict[str, Theta]) -> None:
    header, read = open_update(written(tmp_path, b"".join(encode_update(DIGEST, vectors))))
    assert header.layout == DIGEST
    assert list(read) == list(vectors)
    for name, vector in vectors.items():
        assert read[name].tobytes() == vector.tobytes()


def test_vectors_of_length_zero_are_read(tmp_path: Path) -> None:
    empty = np.empty(0, np.float32)
    _, read = open_update(written(tmp_path, b"".join(encode_update(DIGEST, {"a": empty, "b": empty}))))
    assert [len(vector) for vector in read.values()] == [0, 0]


def test_vectors_are_mapped_read_only(tmp_path: Path) -> None:
    _, read = open_update(written(tmp_path, b"".join(encode_update(DIGEST, {DELTA: np.ones(4, np.float32)}))))
    assert isinstance(read[DELTA], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        read[DELTA][0] = 2


def test_other_types_and_strides_are_written_as_little_endian_float32(tmp_path: Path) -> None:
    wide: Any = np.arange(6, dtype=">f8")[::2]
    _, read = open_update(written(tmp_path, b"".join(encode_update(DIGEST, {DELTA: wide}))))
    np.testing.assert_array_equal(read[DELTA], [0, 2, 4])


def test_an_update_cut_at_any_byte_is_a_wire_error(tmp_path: Path) -> None:
    content = b"".join(encode_update(DIGEST, {DELTA: np.ones(3, np.float32), "c": np.ones(2, np.float32)}))
    for length in range(len(content)):
        with pytest.raises(WireError):
            open_update(written(tmp_path, content[:length]))


def test_an_update_with_bytes_too_many_is_a_wire_error(tmp_path: Path) -> None:
    content = b"".join(encode_update(DIGEST, {DELTA: np.ones(3, np.float32)}))
    with pytest.raises(WireError, match="does not hold the vectors"):
        open_update(written(tmp_path, content + b"\x00"))


GOOD = {"layout": DIGEST, "vectors": {DELTA: 0}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not start with its magic"),
        (b"midge2" + with_header(GOOD)[6:], "does not start with its magic"),
        (struct.pack("<6sI", MAGIC, 0xFFFFFFFF), "update header of 4294967295 bytes"),
        (struct.pack("<6sI", MAGIC, 4097) + bytes(5000), "update header of 4097 bytes"),
        (struct.pack("<6sI", MAGIC, 0), "update header is not valid"),
        (struct.pack("<6sI", MAGIC, 5) + b"\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (struct.pack("<6sI", MAGIC, 5) + b"\xdf\xff\xff\xff\xff", "exceeds max_map_len"),
        (struct.pack("<6sI", MAGIC, 4000) + b"\x91" * 4000, "update header is not valid"),
        (struct.pack("<6sI", MAGIC, 1) + b"\xc1", "update header is not valid"),
        (with_header([1, 2]), "update header is not valid"),
        (with_header(GOOD | {"layout": "short"}), "layout"),
        (with_header(GOOD | {"novelty": 1}), "Extra inputs"),
        (with_header(GOOD | {"vectors": {}}), "at least 1 item"),
        (with_header(GOOD | {"vectors": {str(index): 0 for index in range(17)}}), "at most 16 items"),
        (with_header(GOOD | {"vectors": {"": 0}}), "at least 1 character"),
        (with_header(GOOD | {"vectors": {DELTA: 1.0}}), "valid integer"),
        (with_header(GOOD | {"vectors": {DELTA: True}}), "valid integer"),
        (with_header(GOOD | {"vectors": {DELTA: -1}}), "negative length"),
        (with_header(GOOD | {"vectors": {DELTA: -1, "b": 1}}), "negative length"),
        (with_header(GOOD | {"vectors": {DELTA: 1 << 63}}), "does not hold the vectors"),
    ],
)
def test_a_hostile_file_is_a_wire_error_that_says_why(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        open_update(written(tmp_path, content))


@given(st.binary(max_size=100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_header_is_an_update_or_a_wire_error(tmp_path: Path, header: bytes) -> None:
    content = struct.pack("<6sI", MAGIC, len(header)) + header
    with pytest.raises(WireError):
        open_update(written(tmp_path, content))
