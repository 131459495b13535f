import io
import itertools
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sealing import (
    BLOCK_BYTES,
    MAGIC,
    TAG_BYTES,
    WRAPPED_BYTES,
    SealingKey,
    context_of,
    is_sealed,
    seal,
    seal_update,
    sealed_size,
)
from broker.topics import Topics
from host.errors import ConfigError, SealError

TOPICS = Topics("lab")
CONTEXT = context_of(TOPICS, "run-a", 3, "pi-1")
LONG = bytes(range(256)) * (3 * BLOCK_BYTES // 256) + b"end"
BLOCKS = len(MAGIC) + WRAPPED_BYTES


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SealingKey:
    return SealingKey(tmp_path_factory.mktemp("key") / "sealing.key")


def sealed(key: SealingKey, *parts: bytes) -> bytes:
    return b"".join(seal_update(parts, key.public_key, CONTEXT))


def opened(key: SealingKey, content: bytes, context: bytes = CONTEXT) -> bytes:
    return b"".join(key.open_update(io.BytesIO(content), context))


@pytest.mark.parametrize(
    "length", [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES + 3]
)
def test_what_was_sealed_in_any_parts_is_opened(key: SealingKey, length: int) -> None:
    plain = LONG[:length]
    cuts = sorted({0, length // 3, length // 2, length})
    content = sealed(key, *(plain[start:end] for start, end in itertools.pairwise(cuts)))
    assert opened(key, content) == plain
    assert len(content) == sealed_size(length)
    assert plain[:64] not in content or length < 16


def test_the_same_update_is_sealed_differently_each_time(key: SealingKey) -> None:
    one, other = sealed(key, LONG), sealed(key, LONG)
    assert one[len(MAGIC) : BLOCKS] != other[len(MAGIC) : BLOCKS]
    assert one[BLOCKS:] != other[BLOCKS:]


OTHERS = {
    "federation": context_of(Topics("other"), "run-a", 3, "pi-1"),
    "prefix": context_of(Topics("lab", "acme"), "run-a", 3, "pi-1"),
    "run": context_of(TOPICS, "run-b", 3, "pi-1"),
    "round": context_of(TOPICS, "run-a", 4, "pi-1"),
    "device": context_of(TOPICS, "run-a", 3, "pi-2"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_it_opens_for_no_other_federation_run_round_or_device(key: SealingKey, other: str) -> None:
    with pytest.raises(SealError, match="not sealed to the aggregator's key"):
        opened(key, sealed(key, LONG), OTHERS[other])


def test_it_opens_with_no_other_key(key: SealingKey, tmp_path: Path) -> None:
    with pytest.raises(SealError, match="not sealed to the aggregator's key"):
        opened(SealingKey(tmp_path / "sealing.key"), sealed(key, LONG))


@given(place=st.integers(0, 1 << 20), bits=st.integers(1, 255))
def test_any_byte_that_is_changed_is_noticed(key: SealingKey, place: int, bits: int) -> None:
    content = bytearray(sealed(key, LONG))
    content[place % len(content)] ^= bits
    with pytest.raises(SealError):
        opened(key, bytes(content))


@given(length=st.integers(0, sealed_size(len(LONG)) - 1))
def test_every_beginning_of_it_is_refused(key: SealingKey, length: int) -> None:
    with pytest.raises(SealError):
        opened(key, sealed(key, LONG)[:length])


def test_a_cut_between_two_blocks_and_a_block_out_of_place_are_noticed(key: SealingKey) -> None:
    content, size = sealed(key, LONG), BLOCK_BYTES + TAG_BYTES
    first, second = content[BLOCKS : BLOCKS + size], content[BLOCKS + size : BLOCKS + 2 * size]
    rest = content[BLOCKS + 2 * size :]
    for damaged in (first, first + second, second + first + rest, first + first + rest, second + rest):
        with pytest.raises(SealError, match="is damaged, missing or out of place"):
            opened(key, content[:BLOCKS] + damaged)
    with pytest.raises(SealError, match="is damaged"):
        opened(key, content + b"more")


def test_what_is_not_sealed_says_so(key: SealingKey, tmp_path: Path) -> None:
    path = tmp_path / "update"
    path.write_bytes(b"midge1 and so on")
    assert not is_sealed(path)
    with path.open("rb") as file, pytest.raises(SealError, match="it is not sealed"):
        list(key.open_update(file, CONTEXT))
    path.write_bytes(sealed(key, LONG))
    assert is_sealed(path)


@pytest.mark.parametrize("bad", ["00" * 32, "ab"], ids=["of low order", "short"])
def test_what_is_no_key_is_not_sealed_to(bad: str) -> None:
    with pytest.raises(SealError, match="is no key that anything can be sealed to"):
        seal(b"text", bad, CONTEXT)


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "sealing.key"
    made = SealingKey(path)
    assert path.stat().st_mode & 0o077 == 0
    assert SealingKey(path).public_key == made.public_key
    path.write_text("no key")
    with pytest.raises(ConfigError, match=r"sealing\.key cannot be used: it holds no key"):
        SealingKey(path)


def test_a_large_update_takes_the_memory_of_some_blocks(key: SealingKey, tmp_path: Path) -> None:
    path, part = tmp_path / "update", bytes(1 << 20)
    tracemalloc.start()
    try:
        with path.open("wb") as file:
            file.writelines(seal_update((part for _ in range(64)), key.public_key, CONTEXT))
        with path.open("rb") as file:
            assert sum(map(len, key.open_update(file, CONTEXT))) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
