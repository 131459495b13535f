"""A broker whose owner reads all of it sees of a sealed run neither updates nor what tells of the data."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

from aggregator.settings import SEALING_KEY, SIGNING_KEY
from broker import topics as tree
from broker.envelope import DeviceKey, Envelope
from broker.events import Received
from broker.messages import BlobRef, Offer, ReceiptOutcome, RejectReason
from broker.mosquitto import Mosquitto
from broker.sealing import SealingKey, context_of, seal_update
from broker.signing import Signer
from broker.topics import Role, Topics
from broker.wire import decode, encode
from edge_agent.settings import DEVICE_KEY
from tests.broker.peer import Peer
from tests.system.lab import DEVICES, ROLES, Lab

EXAMPLES = 1237
# What an update in the clear begins with, and what tells of data in messages and documents.
EXAMPLES_SAID: bytes = msgpack.packb("examples") + msgpack.packb(EXAMPLES)
READABLE = (b"midge1", b"accuracy", b"loss", str(EXAMPLES).encode(), EXAMPLES_SAID)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Lab, Peer]]:
    """A broker whose owner reads and writes all of it."""
    users = ROLES | dict.fromkeys(DEVICES, Role.DEVICE) | {"owner": Role.MONITOR}
    broker = Mosquitto(tmp_path / "foreign", Topics("lab"), users)
    (tmp_path / "foreign" / "acl").write_text("pattern readwrite #\n")
    with broker:
        settings = broker.settings("owner").model_copy(
            update={"password_file": tmp_path / "foreign" / "passwords" / "owner"}
        )
        with Peer(settings, "owner", "#") as owner, Lab(tmp_path, broker=settings) as lab:
            yield lab, owner


def pinned(lab: Lab) -> dict[str, object]:
    key = Signer(lab.folder / "aggregator" / SIGNING_KEY).public_key
    return {"sealed": True, "aggregator_key": key}


def overheard(owner: Peer) -> list[Received]:
    owner.send("end", b"end")
    return owner.receive_until(b"end")


def of_devices(heard: list[Received], topics: Topics, branch: tree.Branch) -> list[Received]:
    return [m for m in heard if (found := topics.parse(m.topic)) and found.branch is branch]


@pytest.mark.timeout(240)
def test_a_reader_of_everything_finds_no_update_no_metrics_and_no_secret(watched: tuple[Lab, Peer]) -> None:
    lab, owner = watched
    lab.start_aggregator(sealed=True)
    lab.start_agents(examples=EXAMPLES, **pinned(lab))
    run = lab.start_run(rounds=2, min_devices=3)
    assert lab.until_ended(run)["state"] == "finished"
    assert set(lab.accepted(run, 2)) == set(DEVICES)
    heard = overheard(owner)

    chunks = of_devices(heard, lab.topics, tree.UPDATE_CHUNK)
    births = of_devices(heard, lab.topics, tree.PRESENCE)
    for branch in (tree.OFFER, tree.REPORT):
        told = of_devices(heard, lab.topics, branch)
        assert len({message.topic for message in told}) == 3
        assert all(decode(Envelope, message.payload) for message in told)
    assert len(chunks) >= 6
    for message in [*chunks, *births, *of_devices(heard, lab.topics, tree.MONITOR_DEVICE)]:
        payload = message.payload.replace(b'"loss":null', b"").replace(b'"contribution":null', b"")
        assert not [word for word in (*READABLE, b"contribution") if word in payload], message.topic
    for message in of_devices(heard, lab.topics, tree.MONITOR_ROUND):
        for part in json.loads(message.payload or b"{}").get("participants", {}).values():
            assert part["examples"] == 0
            assert part["training"] == part["validation"] == part["evaluation"] == {}
    told = [message for message in heard if message.topic.endswith(("monitor/events", "monitor/recent"))]
    assert told
    assert not [message for message in told if str(EXAMPLES).encode() in message.payload]
    deltas = theta_of(lab, run, 1) - theta_of(lab, run, 0)
    assert np.any(deltas)
    assert secrets_found(lab, heard) == []
    # The ledger knows what the broker does not.
    assert lab.log("aggregator").count("is known by key") == 3


def theta_of(lab: Lab, run: str, number: int) -> NDArray[np.float32]:
    return np.fromfile(lab.run_folder(run) / "theta" / f"round-{number:04}.f32", "<f4")


def secrets_found(lab: Lab, heard: list[Received]) -> list[str]:
    """Every file with a secret whose content, in any common spelling, was logged or published."""
    files = [
        *(lab.folder / "foreign" / "passwords").iterdir(),
        *(lab.folder / "aggregator" / name for name in (SIGNING_KEY, SEALING_KEY)),
        *(lab.folder / device / DEVICE_KEY for device in DEVICES),
    ]
    everywhere = b"".join(message.payload + message.topic.encode() for message in heard)
    everywhere += b"".join(log.read_bytes() for log in lab.folder.rglob("*.log"))
    found = []
    for file in files:
        text = file.read_text().strip()
        assert len(text) >= 20, file
        spellings = [text.encode(), text.upper().encode()]
        if file.suffix == ".key":
            spellings.append(bytes.fromhex(text))
        found += [str(file) for spelling in spellings if spelling in everywhere]
    return found


@pytest.mark.timeout(240)
def test_an_update_that_does_not_open_is_rejected_and_a_stranger_under_a_device_s_id_is_not_heard(
    watched: tuple[Lab, Peer],
) -> None:
    lab, owner = watched
    lab.start_aggregator(sealed=True)
    lab.start_agents("pi-1", "pi-2", **pinned(lab))
    hand = lab.hand("pi-3")
    to = SealingKey(lab.folder / "aggregator" / SEALING_KEY).public_key
    hand.seal_to(DeviceKey(lab.folder / "hand.key"), to)
    run = lab.start_run(rounds=1, min_devices=3, quorum=2)
    asked = hand.assignment()
    of_another_round = context_of(lab.topics, run, asked.round + 1, "pi-3")
    content = b"".join(seal_update([b"midge1" + bytes(1000)], to, of_another_round))
    digest = hashlib.sha256(content).hexdigest()
    update = BlobRef(digest=digest, size=len(content), chunk_bytes=asked.theta.chunk_bytes)
    offer = Offer(run=run, round=asked.round, update=update, examples=5)
    receipt = hand.upload(offer, content)
    assert (receipt.outcome, receipt.reason) == (ReceiptOutcome.REJECTED, RejectReason.SEAL)
    lab.leave()
    assert lab.until_ended(run)["state"] == "finished"
    assert set(lab.accepted(run, 1)) == {"pi-1", "pi-2"}

    thief = DeviceKey(lab.folder / "thief.key")
    topic = lab.topics.topic(tree.OFFER, device="pi-1")
    owner.send(topic, thief.enclose(topic, offer, to))
    owner.send(lab.topics.topic(tree.OFFER, device="pi-2"), encode(offer))
    lab.until(lambda seen: seen.get("federation", {}).get("messages_dropped") == 2)
    assert f"it is signed with key {thief.public_key}, and pi-1 is known by" in lab.log("aggregator")
    assert "dropped a message of pi-2" in lab.log("aggregator")
