"""Damage to valid encodings, fast enough for millions: of whole values, and of bytes."""

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import msgpack

# Claims of more than follows, what another type or size looks like, and the edges of ranges.
VALUES: tuple[object, ...] = (
    *(-1, 1 << 31, 1 << 63, (1 << 64) - 1, -(1 << 63), 1.0, 1e308, -0.0),
    *(float("nan"), float("inf"), float("-inf")),
    *("", "a", "ab" * 32, "ü" * 200, "\0", "x" * 301, "idle", "train"),
    *(b"", bytes(64), bytes(65), [], [[]] * 17, {}, {"minor": 1}, {"": {}}, [0] * 65, [None] * 4096),
)
MSGPACK_ATOMS = (
    *(bytes([byte]) for byte in (0x00, 0x7F, 0x80, 0x81, 0x90, 0x91, 0xA0, 0xC0, 0xC1, 0xC2, 0xC3, 0xFF)),
    *(bytes([byte]) + rest for byte in range(0xC4, 0xE0) for rest in (b"\xff" * 8, bytes(16))),
    *(bytes(msgpack.packb(value)) for value in VALUES),
    *(opening * depth for opening in (b"\x91", b"\x81\xa0", b"\xdc\x10\x00") for depth in (40, 600)),
)
JSON_ATOMS = tuple(
    atom.encode()
    for atom in (
        *("0", "-1", "1e999", "NaN", "-Infinity", "1.5", str(1 << 31), str(1 << 64), "9" * 5000),
        *('""', '"x"', '"\\ud800"', '"\\u0000"', '"' + "x" * 301 + '"', '"keras.utils"', '"Lambda"'),
        *("null", "true", "[]", "{}", "[[]]", '{"class_name":"Lambda"}', ",", ":", "}", "]"),
        *("[" * 300, '{"a":' * 300, "[" + "0," * 99 + "0]", "[" + '"",' * 999 + '""]'),
    )
)
TOPIC_ATOMS = tuple(
    atom.encode()
    for atom in (
        *("", "/", "+", "#", "$SYS", "-1", "01", "0", "10000000", "A" * 32, "a" * 33, "midge", "v1", "v2"),
        *("lab", "devices", "blobs", "é", "\0", "\n", "٣", "0" * 64, "0" * 16, "monitor", "runs"),
    )
)
JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+|[\[\]{}:,]')
TOPIC_LEVEL = re.compile(rb"[^/]+")
LARGE_BYTES = 300_000
# Which part of all is damaged how; what is swollen takes a hundred times as long as the others.
SWOLLEN, REPLACED, GROWN = 0.001, 0.6, 0.85
SCRATCHED_TOO = 0.2

Span = tuple[int, int]


@dataclass(frozen=True)
class Seed:
    """A valid encoding, where its values lie, and what to put in their places."""

    content: bytes
    spans: Sequence[Span]
    atoms: Sequence[bytes]
    keys: Sequence[Span] = ()
    # What stands between two values in a row.
    glue: bytes = b""
    # Maps whose header is one byte, by offset: a key more or less keeps them well formed.
    maps: Sequence[int] = ()


def of_msgpack(content: bytes) -> Seed:
    """Every key and value, the whole included."""
    spans: list[Span] = []
    keys: list[Span] = []
    maps: list[int] = []
    end = _walk(content, 0, spans, keys, maps)
    assert end == len(content)
    return Seed(content, spans, MSGPACK_ATOMS, keys, maps=maps)


def _walk(content: bytes, begin: int, spans: list[Span], keys: list[Span], maps: list[int]) -> int:
    """Note the value that begins here, and those inside; gives its end."""
    end = begin + _length(content[begin:])
    value: Any = msgpack.unpackb(content[begin:end], use_list=False)
    spans.append((begin, end))
    is_map = isinstance(value, dict)
    if is_map or isinstance(value, tuple):
        inside = begin + {0xDC: 3, 0xDE: 3}.get(content[begin], 1)
        if is_map and content[begin] & 0xF0 == 0x80:
            maps.append(begin)
        while inside < end:
            if is_map:
                key = inside
                inside += _length(content[inside:])
                keys.append((key, inside))
            inside = _walk(content, inside, spans, keys, maps)
    return end


def _length(content: bytes) -> int:
    unpacker = msgpack.Unpacker()
    unpacker.feed(content)
    unpacker.skip()
    return int(unpacker.tell())


def of_json(content: bytes) -> Seed:
    """Every key and value, the whole included."""
    spans: list[Span] = []
    keys: list[Span] = []
    open_at: list[int] = []
    for found in JSON_TOKEN.finditer(content):
        begin, end = found.span()
        if found[0] in b"[{":
            open_at.append(begin)
        elif found[0] in b"]}":
            spans.append((open_at.pop(), end))
        elif found[0] not in b":,":
            (keys if content[end : end + 1] == b":" else spans).append((begin, end))
    return Seed(content, spans, JSON_ATOMS, keys, b",")


def of_topic(content: bytes) -> Seed:
    """Every level."""
    return Seed(content, [found.span() for found in TOPIC_LEVEL.finditer(content)], TOPIC_ATOMS, glue=b"/")


def damaged(seeds: Sequence[Seed], random: Random) -> bytes:
    """Damage one of these: a value in another's place, a key more, bytes changed, cut or grown."""
    seed = random.choice(seeds)
    kind = random.random()
    if kind < SWOLLEN:
        return _swollen(seed, random)
    if kind < REPLACED:
        content = _replaced(seed, random.choice(seeds), random)
    elif kind < GROWN and seed.maps:
        content = _grown(seed, random)
    else:
        return _scratched(seed.content, random)
    return _scratched(content, random) if random.random() < SCRATCHED_TOO else content


def _replaced(seed: Seed, other: Seed, random: Random) -> bytes:
    """A value where another was, or now and then a key where another was."""
    kind = random.random()
    if kind < 0.1 and seed.keys and other.keys:
        (begin, end), (first, last) = random.choice(seed.keys), random.choice(other.keys)
        value = other.content[first:last]
    elif kind < 0.6:
        begin, end = random.choice(seed.spans)
        value = random.choice(seed.atoms)
    else:
        (begin, end), (first, last) = random.choice(seed.spans), random.choice(other.spans)
        value = other.content[first:last]
    return seed.content[:begin] + value + seed.content[end:]


def _grown(seed: Seed, random: Random) -> bytes:
    """One key more in a map: an unknown one, one of another map, or a higher minor version."""
    place = random.choice(seed.maps)
    first, last = random.choice(seed.keys)
    key = random.choice((b"\xa5minor", b"\xa7novelty", b"\xa0", seed.content[first:last]))
    value = random.choice((b"\x01", random.choice(seed.atoms)))
    header = seed.content[place] + 1
    if header > 0x8F:  # the largest that is one byte
        return seed.content
    return seed.content[:place] + bytes([header]) + key + value + seed.content[place + 1 :]


def _scratched(content: bytes, random: Random) -> bytes:
    """A few bytes set, flipped, removed, repeated or put in; or the end cut off."""
    scratched = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        size = len(scratched)
        place = int(random.random() * (size + 1))
        match int(random.random() * 6):
            case 0 if place < size:
                scratched[place] ^= 1 << int(random.random() * 8)
            case 1 if place < size:
                scratched[place] = int(random.random() * 256)
            case 2:
                del scratched[place : place + int(random.random() * 9)]
            case 3:
                scratched[place:place] = scratched[place : place + int(random.random() * 33)]
            case 4:
                scratched[place:place] = random.randbytes(int(random.random() * 9))
            case _:
                del scratched[place:]
    return bytes(scratched)


def _swollen(seed: Seed, random: Random) -> bytes:
    """A value in a row of its like, as long as a list may be or as large as anything that is read."""
    begin, end = random.choice(seed.spans)
    value = random.choice((seed.content[begin:end], random.choice(seed.atoms)))
    one = value + seed.glue
    times = random.choice((256, 4095, 4096, LARGE_BYTES)) if one else 0
    times = min(times, LARGE_BYTES // max(len(one), 1))
    opening = (
        b"" if seed.glue else struct.pack(">BI", random.choice((0xDD, 0xDF)), random.choice((times, 4096)))
    )
    return seed.content[:begin] + opening + one * times + value + seed.content[end:]


def share(all_of: Iterable[Seed], own: Seed) -> list[Seed]:
    """One's own seed half of the time, another's otherwise."""
    others = [seed for seed in all_of if seed is not own]
    return [own] * max(len(others), 1) + others
