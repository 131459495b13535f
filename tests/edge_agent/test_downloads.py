"""Downloads of the agent through a real broker."""

import errno
import hashlib
import os
from contextlib import closing
from pathlib import Path

import pytest

from broker.events import Received
from broker.messages import BlobRef
from broker.mosquitto import Mosquitto
from broker.partfile import PartFile
from broker.topics import BLOB_CHUNK, Topics
from edge_agent.downloads import MAX_WINDOW, STALL_S, Downloads, Outcome
from edge_agent.events import Fetched, FetchFailed, FetchFault
from edge_agent.store import Store
from tests.broker.peer import Peer
from tests.edge_agent.small_disk import small_disk

CONTENT = bytes(range(251)) * 200
REF = BlobRef(digest=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT), chunk_bytes=1024)


def part(index: int, content: bytes = CONTENT) -> bytes:
    return content[index * REF.chunk_bytes : (index + 1) * REF.chunk_bytes]


class Getter:
    """Downloads, given by hand what the device's connection brings."""

    def __init__(self, store: Store, device: Peer, topics: Topics) -> None:
        self.downloads = Downloads(store, device.session, topics)
        self.device = device
        self.topics = topics

    def fetch(self, now: float = 0) -> list[Outcome]:
        return self.downloads.fetch([REF], now)

    def take_one(self) -> list[Outcome]:
        received = self.device.until(Received)
        address = self.topics.parse(received.topic)
        assert address is not None
        digest, index = address.fields["digest"], int(address.fields["index"])
        return self.downloads.chunk(digest, index, received.payload, 0)

    def take_all(self) -> list[Outcome]:
        while not (outcomes := self.take_one()):
            pass
        return outcomes

    def give(self, index: int, content: bytes = CONTENT) -> list[Outcome]:
        """A chunk that no broker brought."""
        return self.downloads.chunk(REF.digest, index, part(index, content), 0)


@pytest.fixture
def getter(store: Store, device: Peer, topics: Topics) -> Getter:
    return Getter(store, device, topics)


@pytest.fixture
def _published(mosquitto: Mosquitto, topics: Topics) -> None:
    """The broker has the blob."""
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator:
        for index in range(REF.chunks):
            topic = topics.topic(BLOB_CHUNK, digest=REF.digest, index=index)
            aggregator.send(topic, part(index), retain=True)


published = pytest.mark.usefixtures("_published")


def fault(outcomes: list[Outcome]) -> FetchFault:
    """Whose fault it is that the blob, and nothing else, failed."""
    (outcome,) = outcomes
    assert isinstance(outcome, FetchFailed)
    assert outcome.digest == REF.digest
    return outcome.fault


@published
def test_a_blob_is_fetched_by_windows_and_then_it_is_there(getter: Getter, store: Store) -> None:
    assert getter.fetch() == []
    assert getter.take_all() == [Fetched(REF.digest)]
    assert store.blob(REF).read_bytes() == CONTENT
    assert getter.fetch() == [Fetched(REF.digest)]
    assert getter.downloads.next_deadline() is None


@published
def test_chunks_that_got_lost_are_asked_for_again_after_a_while_and_not_before(getter: Getter) -> None:
    getter.fetch(100)
    for _ in range(MAX_WINDOW):
        getter.device.until(Received)
    getter.downloads.fire(99 + STALL_S)
    assert getter.downloads.next_deadline() == 100 + STALL_S
    getter.downloads.fire(100 + STALL_S)
    assert getter.downloads.next_deadline() == 100 + 2 * STALL_S
    assert getter.take_all() == [Fetched(REF.digest)]


@published
def test_a_download_goes_on_where_another_process_stopped(
    getter: Getter, store: Store, device: Peer, topics: Topics
) -> None:
    getter.fetch()
    for _ in range(10):
        getter.take_one()
    getter.downloads.stop()
    second = Getter(store, device, topics)
    second.fetch()
    taken = 1
    while not second.take_one():
        taken += 1
    # What was on its way to the first one may come again.
    assert taken <= REF.chunks - 10 + MAX_WINDOW
    assert store.blob(REF).read_bytes() == CONTENT


@published
def test_a_blob_that_is_asked_for_again_goes_on_arriving(getter: Getter) -> None:
    getter.fetch()
    getter.take_one()
    assert getter.fetch(1) == []
    assert getter.take_all() == [Fetched(REF.digest)]
    assert getter.downloads.bytes_down == len(CONTENT)


@published
def test_a_new_connection_subscribes_to_what_is_still_missing(getter: Getter, mosquitto: Mosquitto) -> None:
    getter.fetch()
    for _ in range(3):
        getter.take_one()
    with Peer(mosquitto.settings("pi-2"), "pi-2") as later:
        # The session of the next connection: the broker knows no subscription of it.
        getter.device, getter.downloads._session = later, later.session
        getter.downloads.connected(7)
        assert getter.downloads.next_deadline() == 7 + STALL_S
        assert getter.take_all() == [Fetched(REF.digest)]
    assert getter.downloads.bytes_down == len(CONTENT)


# What is wrong with it.


def test_a_chunk_of_a_wrong_size_fails_the_blob_and_strays_are_ignored(getter: Getter) -> None:
    getter.fetch()
    assert getter.downloads.chunk("9" * 64, 0, b"stray", 0) == []
    assert fault(getter.give(0, b"short")) is FetchFault.CONTENT
    assert getter.give(0) == []


def test_a_blob_whose_content_is_wrong_fails_with_its_last_chunk(getter: Getter, tmp_path: Path) -> None:
    getter.fetch()
    outcomes = [outcome for index in range(REF.chunks) for outcome in getter.give(index, bytes(len(CONTENT)))]
    assert fault(outcomes) is FetchFault.CONTENT
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(REF.digest)]


def complete_part(store: Store, content: bytes) -> None:
    """What is left when the power fails between the last chunk and the check of the whole."""
    file = PartFile(store.blob(REF), REF)
    for index in range(REF.chunks):
        file.write(index, part(index, content))


def test_a_blob_that_was_whole_before_a_power_cut_is_only_checked(getter: Getter, store: Store) -> None:
    complete_part(store, CONTENT)
    assert getter.fetch() == [Fetched(REF.digest)]
    assert store.blob(REF).read_bytes() == CONTENT
    assert getter.downloads.next_deadline() is None


@published
def test_a_blob_that_a_power_cut_tore_apart_fails_for_its_content_and_is_fetched_anew(
    getter: Getter, store: Store
) -> None:
    complete_part(store, bytes(len(CONTENT)))
    assert fault(getter.fetch()) is FetchFault.CONTENT
    assert getter.fetch() == []
    assert getter.take_all() == [Fetched(REF.digest)]


# What is wrong with the disk.


def test_a_folder_that_is_gone_fails_for_the_disk(getter: Getter, tmp_path: Path) -> None:
    (tmp_path / "state/blobs").rmdir()
    assert fault(getter.fetch()) is FetchFault.STORAGE


def test_what_does_not_fit_on_the_disk_is_not_begun(getter: Getter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.store.SPARE_BYTES", 1 << 60)
    assert fault(getter.fetch()) is FetchFault.STORAGE
    assert getter.downloads.next_deadline() is None


def test_a_disk_that_fills_up_gets_back_what_had_arrived(
    getter: Getter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    getter.fetch()
    assert getter.give(0) == []

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert fault(getter.give(1)) is FetchFault.STORAGE
    assert not list(store.blob(REF).parent.iterdir())


def test_a_card_that_fills_up_or_fails_in_the_middle_of_a_download_fails_the_blob(
    device: Peer, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.store.SPARE_BYTES", 0)
    with small_disk(tmp_path / "card", 1 << 20) as disk, closing(Store(disk.path)) as store:
        getter = Getter(store, device, topics)
        for spoil, mend in ((disk.fill, disk.empty), (disk.make_read_only, disk.make_writable)):
            assert getter.fetch() == []
            assert getter.give(0) == []
            spoil()
            outcomes = [outcome for index in range(1, REF.chunks) for outcome in getter.give(index)]
            assert fault(outcomes) is FetchFault.STORAGE
            mend()
            assert getter.fetch() == []
            outcomes = [outcome for index in range(REF.chunks) for outcome in getter.give(index)]
            assert outcomes == [Fetched(REF.digest)]
            store.blob(REF).unlink()
