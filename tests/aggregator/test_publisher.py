import hashlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.publisher import IN_FLIGHT, Publisher
from broker.events import Acknowledged, Received
from broker.messages import BlobRef
from broker.mosquitto import Mosquitto
from broker.topics import BLOB_CHUNK, HEARTBEAT, ROUND, Topics
from tests.broker.peer import Peer

EXPIRY_S = 600
CHUNK = 1024


class Blobs:
    """A publisher with its session, and files to publish."""

    def __init__(self, peer: Peer, topics: Topics, folder: Path) -> None:
        self.peer = peer
        self.topics = topics
        self.publisher = Publisher(peer.session, topics, EXPIRY_S)
        self.folder = folder
        self.done: list[str] = []

    def file(self, name: str, chunks: int) -> tuple[Path, BlobRef]:
        content = b"".join(f"{name}{index}".encode().ljust(CHUNK, b".") for index in range(chunks))[:-1]
        path = self.folder / name
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        return path, BlobRef(digest=digest, size=len(content), chunk_bytes=CHUNK)

    def put(self, name: str, chunks: int) -> BlobRef:
        path, ref = self.file(name, chunks)
        self.publisher.put(path, ref, lambda: self.done.append(name))
        return ref

    def acknowledge(self) -> None:
        """Pass the broker's next answer on, as the service does."""
        answer = self.peer.until(Acknowledged)
        self.publisher.acknowledged(answer.ticket, ok=answer.ok, reason=answer.reason)

    def finish(self, *names: str) -> None:
        while not set(names) <= set(self.done):
            self.acknowledge()

    def quiet(self) -> None:
        """Wait until nothing is asked for any more."""
        while self.publisher._jobs:
            self.acknowledge()

    def topic(self, ref: BlobRef, index: int) -> str:
        return self.topics.topic(BLOB_CHUNK, digest=ref.digest, index=index)


@pytest.fixture
def blobs(mosquitto: Mosquitto, topics: Topics, tmp_path: Path) -> Iterator[Blobs]:
    with Peer(mosquitto.settings("aggregator"), "publisher") as peer:
        yield Blobs(peer, topics, tmp_path)


def retained(mosquitto: Mosquitto, topics: Topics, blobs: Blobs) -> dict[str, Received]:
    """Every chunk that a device finds on the broker now."""
    marker = topics.topic(ROUND)
    with Peer(mosquitto.settings("pi-1"), "device", topics.filter(BLOB_CHUNK), marker) as device:
        # The device's own subscriptions reach the broker before what it has sent elsewhere is answered.
        device.send(topics.topic(HEARTBEAT, device="pi-1"), b"here")
        blobs.peer.send(marker, b"end")
        return {message.topic: message for message in device.receive_until(b"end")}


def test_every_chunk_is_retained_with_an_expiry_and_done_is_told_at_the_end(
    mosquitto: Mosquitto, topics: Topics, blobs: Blobs
) -> None:
    ref = blobs.put("theta", 3)
    assert blobs.done == [], "nothing was acknowledged yet"
    blobs.finish("theta")
    found = retained(mosquitto, topics, blobs)
    assert sorted(found) == [blobs.topic(ref, index) for index in range(3)]
    content = b"".join(found[blobs.topic(ref, index)].payload for index in range(3))
    assert content == (blobs.folder / "theta").read_bytes()
    assert all(
        message.expiry_s is not None and EXPIRY_S - 60 < message.expiry_s <= EXPIRY_S
        for message in found.values()
    )


def test_a_cleared_blob_is_off_the_broker_and_the_others_stay(
    mosquitto: Mosquitto, topics: Topics, blobs: Blobs
) -> None:
    old, new = blobs.put("old", 5), blobs.put("new", 2)
    blobs.finish("old", "new")
    blobs.publisher.clear(old)
    blobs.quiet()
    assert sorted(retained(mosquitto, topics, blobs)) == [blobs.topic(new, 0), blobs.topic(new, 1)]


def test_blobs_are_done_in_the_order_in_which_they_were_asked_for(blobs: Blobs) -> None:
    for name, chunks in (("program", 1), ("theta", 2 * IN_FLIGHT), ("another", 1)):
        blobs.put(name, chunks)
    blobs.finish("another")
    assert blobs.done == ["program", "theta", "another"]


def test_only_a_few_chunks_are_unacknowledged_at_a_time(blobs: Blobs) -> None:
    blobs.put("theta", 3 * IN_FLIGHT)
    while not blobs.done:
        assert len(blobs.publisher._jobs[0].tickets) <= IN_FLIGHT
        blobs.acknowledge()


def test_a_blob_that_is_cleared_before_its_turn_is_never_read(
    mosquitto: Mosquitto, topics: Topics, blobs: Blobs
) -> None:
    blobs.put("program", 1)
    theta = blobs.put("theta", 2)
    blobs.publisher.clear(theta)
    (blobs.folder / "theta").unlink()
    blobs.quiet()
    assert blobs.done == ["program"]
    assert theta.digest not in "".join(retained(mosquitto, topics, blobs))


def test_a_blob_that_is_cleared_half_way_leaves_nothing_behind(
    mosquitto: Mosquitto, topics: Topics, blobs: Blobs
) -> None:
    theta = blobs.put("theta", 3 * IN_FLIGHT)
    blobs.acknowledge()
    blobs.publisher.clear(theta)
    blobs.quiet()
    assert blobs.done == []
    assert retained(mosquitto, topics, blobs) == {}


def test_what_is_cleared_and_put_again_is_there(mosquitto: Mosquitto, topics: Topics, blobs: Blobs) -> None:
    ref = blobs.put("theta", 2)
    blobs.publisher.clear(ref)
    blobs.put("theta", 2)
    blobs.quiet()
    assert blobs.done == ["theta"]
    assert sorted(retained(mosquitto, topics, blobs)) == [blobs.topic(ref, 0), blobs.topic(ref, 1)]


def test_a_lost_connection_forgets_what_was_asked_for(blobs: Blobs) -> None:
    blobs.put("theta", 2)
    blobs.publisher.forget()
    for _ in range(2):
        blobs.acknowledge()
    assert blobs.done == []
    blobs.put("again", 1)
    blobs.finish("again")


def test_without_a_connection_chunks_wait_for_the_next_pump(
    mosquitto: Mosquitto, topics: Topics, tmp_path: Path
) -> None:
    settings = mosquitto.settings("aggregator")
    mosquitto.stop()
    peer = Peer(settings, "publisher")
    waiting = Blobs(peer, topics, tmp_path)
    waiting.put("theta", 2)
    mosquitto.start()
    with peer:
        waiting.publisher.pump()
        waiting.finish("theta")


def test_a_full_queue_delays_chunks_and_loses_none(
    mosquitto: Mosquitto, topics: Topics, tmp_path: Path
) -> None:
    settings = mosquitto.settings("aggregator").model_copy(update={"max_queued": 1})
    with Peer(settings, "publisher") as peer:
        blobs = Blobs(peer, topics, tmp_path)
        os.kill(mosquitto.pid, signal.SIGSTOP)  # or it may acknowledge before the queue was found full
        ref = blobs.put("theta", 5)
        assert len(blobs.publisher._jobs[0].tickets) == 1
        os.kill(mosquitto.pid, signal.SIGCONT)
        blobs.finish("theta")
        found = retained(mosquitto, topics, blobs)
    assert [found[blobs.topic(ref, index)].payload[:6] for index in range(5)] == [
        f"theta{index}".encode() for index in range(5)
    ]


def test_a_refused_blob_is_never_done_and_complained_of_once(
    mosquitto: Mosquitto, topics: Topics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer(mosquitto.settings("operator"), "publisher") as peer:
        blobs = Blobs(peer, topics, tmp_path)
        blobs.put("theta", 3)
        blobs.quiet()
    assert blobs.done == []
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [
        "the broker refused a blob: Not authorized; the aggregator needs the right to write blobs/#"
    ]
