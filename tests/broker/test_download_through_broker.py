"""A blob as retained chunks, fetched by windows from a broker that limits packets to 2,000,000 bytes."""

import hashlib
from pathlib import Path

import pytest

from broker.download import Download, Step
from broker.events import Received
from broker.messages import BlobRef
from broker.mosquitto import Mosquitto
from broker.partfile import PartFile
from broker.topics import BLOB_CHUNK, Topics
from tests.broker.peer import Peer


class Fetcher:
    """The few lines that join session, download and part file."""

    def __init__(self, peer: Peer, topics: Topics, ref: BlobRef, path: Path) -> None:
        self.peer, self.topics, self.ref = peer, topics, ref
        self.part = PartFile(path, ref)
        self.download = Download(ref, self.part.bitmap)
        self.bytes_received = 0

    def topic(self, index: int) -> str:
        return self.topics.topic(BLOB_CHUNK, digest=self.ref.digest, index=index)

    def follow(self, step: Step) -> None:
        self.peer.session.subscribe([(self.topic(index), 1) for index in step.subscribe])
        self.peer.session.unsubscribe([self.topic(index) for index in step.unsubscribe])

    def take(self, count: int) -> None:
        for _ in range(count):
            event = self.peer.until(Received)
            address = self.topics.parse(event.topic)
            assert address is not None
            assert event.retained
            index = int(address.fields["index"])
            self.bytes_received += len(event.payload)
            self.part.write(index, event.payload)
            self.follow(self.download.received(index))


def publish(mosquitto: Mosquitto, topics: Topics, content: bytes, chunk_bytes: int) -> BlobRef:
    ref = BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), chunk_bytes=chunk_bytes)
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator:
        for index in range(ref.chunks):
            topic = topics.topic(BLOB_CHUNK, digest=ref.digest, index=index)
            chunk = content[index * chunk_bytes : (index + 1) * chunk_bytes]
            assert aggregator.send(topic, chunk, retain=True, expiry_s=600).ok
    return ref


@pytest.mark.parametrize("chunk_bytes", [1 << 12, 96 << 10, 1 << 20])
def test_a_blob_is_fetched_each_chunk_once(
    mosquitto: Mosquitto, topics: Topics, tmp_path: Path, chunk_bytes: int
) -> None:
    content = hashlib.shake_256(b"theta").digest(4_000_001)
    ref = publish(mosquitto, topics, content, chunk_bytes)
    with Peer(mosquitto.settings("pi-1"), "pi-1") as peer:
        fetcher = Fetcher(peer, topics, ref, tmp_path / "theta")
        fetcher.follow(fetcher.download.start())
        fetcher.take(ref.chunks)
        assert fetcher.download.complete
        assert fetcher.part.finish().read_bytes() == content
        assert fetcher.bytes_received == len(content)


def test_a_download_goes_on_after_the_broker_was_gone(
    mosquitto: Mosquitto, topics: Topics, tmp_path: Path
) -> None:
    content = hashlib.shake_256(b"theta").digest(40 * 1024)
    ref = publish(mosquitto, topics, content, 1024)
    with Peer(mosquitto.settings("pi-1"), "pi-1") as peer:
        fetcher = Fetcher(peer, topics, ref, tmp_path / "theta")
        fetcher.follow(fetcher.download.start())
        fetcher.take(20)
    mosquitto.stop()
    mosquitto.start()
    with Peer(mosquitto.settings("pi-1"), "pi-1") as peer:
        resumed = Fetcher(peer, topics, ref, tmp_path / "theta")
        resumed.follow(resumed.download.start())
        resumed.take(20)
        assert resumed.part.finish().read_bytes() == content


def test_a_stalled_download_gets_what_was_published_late(
    mosquitto: Mosquitto, topics: Topics, tmp_path: Path
) -> None:
    content = hashlib.shake_256(b"theta").digest(4 * 1024)
    ref = BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), chunk_bytes=1024)
    with Peer(mosquitto.settings("pi-1"), "pi-1") as peer:
        fetcher = Fetcher(peer, topics, ref, tmp_path / "theta")
        fetcher.download.start()  # asked for, and lost on the way
        publish(mosquitto, topics, content, 1024)
        fetcher.follow(fetcher.download.stalled())
        fetcher.take(4)
        assert fetcher.part.finish().read_bytes() == content
