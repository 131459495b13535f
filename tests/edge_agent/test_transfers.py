"""Downloads and uploads of the agent through a real broker."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.events import Acknowledged, Received
from broker.messages import BlobRef
from broker.mosquitto import Mosquitto
from broker.topics import BLOB_CHUNK, UPDATE_CHUNK, Topics
from edge_agent.downloads import STALL_S, Downloads, Outcome
from edge_agent.events import Fetched, FetchFailed, FetchFault, UpdateLost
from edge_agent.store import Store
from edge_agent.uploads import MAX_IN_FLIGHT, Uploads
from tests.broker.peer import Peer
from tests.edge_agent.small_disk import small_disk

CONTENT = bytes(range(251)) * 200
REF = BlobRef(digest=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT), chunk_bytes=1024)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "state")) as opened:
        yield opened


@pytest.fixture
def device(mosquitto: Mosquitto) -> Iterator[Peer]:
    with Peer(mosquitto.settings("pi-1"), "pi-1") as peer:
        yield peer


@pytest.fixture
def aggregator(mosquitto: Mosquitto, topics: Topics) -> Iterator[Peer]:
    with Peer(mosquitto.settings("aggregator"), "aggregator", topics.filter(UPDATE_CHUNK)) as peer:
        yield peer


def publish(aggregator: Peer, topics: Topics) -> None:
    for index in range(REF.chunks):
        chunk = CONTENT[index * 1024 : (index + 1) * 1024]
        aggregator.send(topics.topic(BLOB_CHUNK, digest=REF.digest, index=index), chunk, retain=True)


def take_one(downloads: Downloads, device: Peer, topics: Topics, now: float = 0) -> list[Outcome]:
    received = device.until(Received)
    address = topics.parse(received.topic)
    assert address is not None
    return downloads.chunk(address.fields["digest"], int(address.fields["index"]), received.payload, now)


def take_all(downloads: Downloads, device: Peer, topics: Topics) -> list[Outcome]:
    while not (outcomes := take_one(downloads, device, topics)):
        pass
    return outcomes


def test_a_blob_is_fetched_by_windows_and_then_it_is_there(
    store: Store, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    publish(aggregator, topics)
    downloads = Downloads(store, device.session, topics)
    assert downloads.fetch([REF], 0) == []
    assert take_all(downloads, device, topics) == [Fetched(REF.digest)]
    assert store.blob(REF).read_bytes() == CONTENT
    assert downloads.fetch([REF], 0) == [Fetched(REF.digest)]
    assert downloads.next_deadline() is None


def test_chunks_that_got_lost_are_asked_for_again_after_a_while(
    store: Store, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    publish(aggregator, topics)
    downloads = Downloads(store, device.session, topics)
    downloads.fetch([REF], 100)
    for _ in range(16):
        device.until(Received)
    assert downloads.next_deadline() == 100 + STALL_S
    downloads.fire(100 + STALL_S)
    assert downloads.next_deadline() == 100 + 2 * STALL_S
    assert take_all(downloads, device, topics) == [Fetched(REF.digest)]


def test_a_download_goes_on_where_another_process_stopped(
    store: Store, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    publish(aggregator, topics)
    first = Downloads(store, device.session, topics)
    first.fetch([REF], 0)
    for _ in range(10):
        take_one(first, device, topics)
    first.stop()
    second = Downloads(store, device.session, topics)
    second.fetch([REF], 0)
    taken = 1
    while not take_one(second, device, topics):
        taken += 1
    # What was on its way to the first one may come again.
    assert taken <= REF.chunks - 10 + 16
    assert store.blob(REF).read_bytes() == CONTENT


def test_a_chunk_of_a_wrong_size_fails_the_blob_and_strays_are_ignored(
    store: Store, device: Peer, topics: Topics
) -> None:
    downloads = Downloads(store, device.session, topics)
    downloads.fetch([REF], 0)
    assert downloads.chunk("9" * 64, 0, b"stray", 0) == []
    (outcome,) = downloads.chunk(REF.digest, 0, b"short", 0)
    assert isinstance(outcome, FetchFailed)
    assert outcome.fault is FetchFault.CONTENT
    assert downloads.chunk(REF.digest, 0, CONTENT[:1024], 0) == []


def test_a_folder_that_is_gone_fails_for_the_disk(
    store: Store, device: Peer, topics: Topics, tmp_path: Path
) -> None:
    downloads = Downloads(store, device.session, topics)
    (tmp_path / "state/blobs").rmdir()
    (outcome,) = downloads.fetch([REF], 0)
    assert isinstance(outcome, FetchFailed)
    assert outcome.fault is FetchFault.STORAGE


def update_in(store: Store) -> BlobRef:
    store.new_update.write_bytes(CONTENT)
    return store.take_update(1024)


def test_granted_chunks_go_out_a_few_at_a_time(
    store: Store, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    update = update_in(store)
    uploads = Uploads(store, device.session, topics, "pi-1")
    assert uploads.send(update, (3, 1, 4, 1, 5, 9, 2, 6)) == []
    while uploads._in_flight:
        assert len(uploads._in_flight) <= MAX_IN_FLIGHT
        uploads.acknowledged(device.until(Acknowledged).ticket)
    for index in (3, 1, 4, 5, 9, 2, 6):
        received = aggregator.until(Received)
        assert received.topic == topics.topic(
            UPDATE_CHUNK, device="pi-1", transfer=update.transfer, index=index
        )
        assert received.payload == CONTENT[index * 1024 : (index + 1) * 1024]


@pytest.mark.parametrize(("chunk_bytes", "at_once"), [(96 << 10, 3), (256 << 10, 1), (1 << 20, 1)])
def test_of_large_chunks_fewer_go_out_at_a_time(
    store: Store, device: Peer, topics: Topics, chunk_bytes: int, at_once: int
) -> None:
    store.new_update.write_bytes(bytes(4 * chunk_bytes))
    uploads = Uploads(store, device.session, topics, "pi-1")
    assert uploads.send(store.take_update(chunk_bytes), tuple(range(4))) == []
    assert len(uploads._in_flight) == at_once


def test_an_upload_whose_file_is_gone_is_told(store: Store, device: Peer, topics: Topics) -> None:
    update = update_in(store)
    store.delete_update(update.transfer)
    (lost,) = Uploads(store, device.session, topics, "pi-1").send(update, (0,))
    assert isinstance(lost, UpdateLost)
    assert lost.transfer == update.transfer


def test_nothing_waits_for_a_connection_that_is_not_there(store: Store, device: Peer, topics: Topics) -> None:
    update = update_in(store)
    device.session.stop()
    uploads = Uploads(store, device.session, topics, "pi-1")
    assert uploads.send(update, (0, 1)) == []
    assert not uploads._waiting
    assert not uploads._in_flight


def test_what_does_not_fit_on_the_disk_is_not_begun(
    store: Store, device: Peer, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.store.SPARE_BYTES", 1 << 60)
    downloads = Downloads(store, device.session, topics)
    (outcome,) = downloads.fetch([REF], 0)
    assert isinstance(outcome, FetchFailed)
    assert outcome.fault is FetchFault.STORAGE
    assert downloads.next_deadline() is None


def test_a_disk_that_fills_up_gets_back_what_had_arrived(
    store: Store, device: Peer, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = Downloads(store, device.session, topics)
    downloads.fetch([REF], 0)
    assert downloads.chunk(REF.digest, 0, CONTENT[:1024], 0) == []

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    (outcome,) = downloads.chunk(REF.digest, 1, CONTENT[1024:2048], 0)
    assert isinstance(outcome, FetchFailed)
    assert outcome.fault is FetchFault.STORAGE
    assert not list(store.blob(REF).parent.iterdir())


def test_a_card_that_fills_up_or_fails_in_the_middle_of_a_download_fails_the_blob(
    device: Peer, topics: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.store.SPARE_BYTES", 0)
    with small_disk(tmp_path / "card", 1 << 20) as disk, closing(Store(disk.path)) as store:
        downloads = Downloads(store, device.session, topics)
        for spoil, mend in ((disk.fill, disk.empty), (disk.make_read_only, disk.make_writable)):
            assert downloads.fetch([REF], 0) == []
            assert downloads.chunk(REF.digest, 0, CONTENT[:1024], 0) == []
            spoil()
            outcomes = [outcome for index in range(1, REF.chunks) for outcome in give(downloads, index)]
            assert [type(outcome) for outcome in outcomes] == [FetchFailed]
            assert isinstance(outcomes[0], FetchFailed)
            assert outcomes[0].fault is FetchFault.STORAGE
            mend()
            assert downloads.fetch([REF], 0) == []
            outcomes = [outcome for index in range(REF.chunks) for outcome in give(downloads, index)]
            assert outcomes == [Fetched(REF.digest)]
            store.blob(REF).unlink()


def give(downloads: Downloads, index: int) -> list[Outcome]:
    return downloads.chunk(REF.digest, index, CONTENT[index * 1024 : (index + 1) * 1024], 0)
