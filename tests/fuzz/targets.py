"""What reads bytes or topics of strangers, and what must hold of whatever it makes of them."""

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from broker.layout import Layout
from broker.litert import LiteRTBody
from broker.messages import Announcement, Grant, Inbox, Invite, Message, Receipt
from broker.program import KerasBody, Program
from broker.signing import SignedAnnouncement, _covered, unseal
from broker.topics import FIELD_PATTERNS, TREE, Topics
from broker.update import MAGIC, encode_update, open_update
from broker.wire import decode, encode
from host.errors import WireError
from tests.broker.examples import DIGEST, EXAMPLES, LITERT_BODY
from tests.fuzz.damage import Seed, damaged, of_json, of_msgpack, of_topic, share

ROUND_TOPIC = "midge/v1/lab/round"
TOPICS = Topics("lab")
MAX_COMPLAINT = 400
FIELDS = {"device": "pi-1", "user": "ann", "run": "run-a", "round": "12", "digest": "ab" * 32}
LOWEST = {"transfer": "ab" * 8, "index": "7", "token": f"token_{'ab' * 16}"}


@dataclass(frozen=True)
class Target:
    """A decoder: how to make an input from a random source, and how to read it, told whether it was taken."""

    name: str
    make: Callable[[Random], bytes]
    # Raises WireError for what is refused; what else it raises is a fault.
    read: Callable[[bytes], object]

    def takes(self, content: bytes) -> bool:
        """Whether it was read; a fault is raised as it came."""
        try:
            self.read(content)
        except WireError as error:
            complaint = str(error)
        else:
            return True
        assert len(complaint) < MAX_COMPLAINT, "whoever sent it decides how much is logged"
        return False


def of_seeds(name: str, seeds: Sequence[Seed], read: Callable[[bytes], object]) -> Target:
    """Damage to some valid encodings."""
    return Target(name, lambda random: damaged(seeds, random), read)


def targets() -> list[Target]:
    """All of them."""
    return [
        *_messages(),
        of_seeds("Program", [of_json(_program())], lambda payload: Program.from_bytes(payload).layout.size),
        of_seeds("KerasBody", [of_json(_keras_body())], KerasBody.from_json),
        of_seeds("LiteRTBody", [of_json(LITERT_BODY.to_json().encode())], _litert),
        _update(),
        of_seeds("sealed, no key", _sealed(), lambda payload: unseal(ROUND_TOPIC, payload, None)),
        _pinned("sealed, pinned key"),
        of_seeds("topics", _topics(), _parse),
    ]


def _messages() -> list[Target]:
    seeds = {type(example): of_msgpack(encode(example)) for example in EXAMPLES}
    inbox: Any = Inbox
    answers = [seeds[kind] for kind in (Invite, Grant, Receipt)]
    return [
        *(of_seeds(kind.__name__, share(seeds.values(), own), _decoder(kind)) for kind, own in seeds.items()),
        of_seeds("Inbox", answers, _decoder(inbox)),
    ]


def _decoder(kind: type[Message]) -> Callable[[bytes], object]:
    def read(payload: bytes) -> None:
        message = decode(kind, payload)
        again = decode(kind, encode(message))
        assert again == message, f"{message} is not what is read of its own encoding"

    return read


@cache
def _program() -> bytes:
    layout = Layout(trainable=((3, 2), (2,), (), (3, 3, 1, 8)), state=((2,), (2,)))
    return Program(layout=layout, runtime="keras", body='{"ü": 1}').to_bytes()


def _keras_body() -> bytes:
    dense = {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"name": "d", "units": 3, "activation": "softmax", "dtype": {"module": "keras"}},
        "registered_name": None,
        "build_config": {"input_shape": [None, 784]},
    }
    model = {"class_name": "Sequential", "config": {"layers": [dense, dense]}, "module": "keras"}
    loss = {"module": "builtins", "class_name": "function", "config": "mse"}
    return (
        KerasBody(model=model, compile={"optimizer": {"config": {"rate": 0.1}}, "loss": loss})
        .to_json()
        .encode()
    )


def _litert(content: bytes) -> None:
    body = LiteRTBody.from_json(content.decode(errors="replace"))
    assert LiteRTBody.from_json(body.to_json()) == body


def _update() -> Target:
    """Half of them damaged in the header, with a right prefix, half of them anywhere."""
    # A file in memory, which goes with the process.
    file = os.memfd_create("update")
    path = Path(f"/proc/self/fd/{file}")
    vectors = {"delta": np.ones(5, np.float32), "c": np.empty(0, np.float32)}
    whole = b"".join(encode_update(DIGEST, vectors))
    length = struct.unpack_from("<I", whole, len(MAGIC))[0]
    begin = len(MAGIC) + 4
    header = of_msgpack(whole[begin : begin + length])
    rest = whole[begin + length :]
    anywhere = Seed(
        whole, [(0, 6), (6, 10), (begin, begin + length), (begin + length, len(whole))], header.atoms
    )

    def make(random: Random) -> bytes:
        if random.random() < 0.5:
            return damaged([anywhere], random)
        changed = damaged([header], random)
        return MAGIC + struct.pack("<I", len(changed)) + changed + rest

    def read(content: bytes) -> None:
        os.pwrite(file, content, 0)
        os.ftruncate(file, len(content))
        named, mapped = open_update(path)
        assert {name: len(vector) for name, vector in mapped.items()} == named.vectors

    return Target("update", make, read)


def _sealed() -> list[Seed]:
    """Damage in the envelope, and in the announcement inside."""
    announcement = of_msgpack(encode(next(e for e in EXAMPLES if isinstance(e, Announcement))))
    whole = encode(SignedAnnouncement(announcement=announcement.content, signature=bytes(64)))
    shift = whole.index(announcement.content)
    inside = [(begin + shift, end + shift) for begin, end in announcement.spans]
    keys = [(begin + shift, end + shift) for begin, end in announcement.keys]
    maps = [place + shift for place in announcement.maps]
    return [of_msgpack(whole), Seed(whole, inside, announcement.atoms, keys, maps=maps)]


def _pinned(name: str) -> Target:
    """Nonsense that the owner of the key signed, every tenth time; else what nobody signed.

    A signature takes longer than anything else here.
    """
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"fuzz").digest())
    public = key.public_key().public_bytes_raw().hex()
    inner = [of_msgpack(encode(e)) for e in EXAMPLES if isinstance(e, Announcement)]
    envelopes = _sealed()

    def make(random: Random) -> bytes:
        if random.random() < 0.9:
            return damaged(envelopes, random)
        content = damaged(inner, random)
        signature = key.sign(_covered(ROUND_TOPIC, content))
        return bytes(msgpack.packb({"minor": 0, "announcement": content, "signature": signature}))

    return Target(name, make, lambda payload: unseal(ROUND_TOPIC, payload, public))


def _topics() -> list[Seed]:
    fields = FIELDS | LOWEST
    assert fields.keys() == FIELD_PATTERNS.keys()
    return [of_topic(TOPICS.topic(branch, **fields).encode()) for branch in TREE]


def _parse(content: bytes) -> None:
    topic = content.decode(errors="replace")
    address = TOPICS.parse(topic)
    if address is None:
        raise WireError("of no tree")
    assert TOPICS.topic(address.branch, **address.fields) == topic
