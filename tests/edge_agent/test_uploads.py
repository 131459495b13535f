"""Uploads of the agent through a real broker."""

from collections.abc import Iterator

import pytest

from broker.events import Acknowledged, Received
from broker.messages import BlobRef
from broker.mosquitto import Mosquitto
from broker.topics import UPDATE_CHUNK, Topics
from edge_agent.events import UpdateLost
from edge_agent.store import Store
from edge_agent.uploads import MAX_IN_FLIGHT, Uploads
from host.errors import StorageError
from tests.broker.peer import Peer
from tests.edge_agent.agent_world import DEVICE

CONTENT = bytes(range(251)) * 200
CHUNK_BYTES = 1024


@pytest.fixture
def uploads(store: Store, device: Peer, topics: Topics) -> Uploads:
    return Uploads(store, device.session, topics, DEVICE)


@pytest.fixture
def update(store: Store) -> BlobRef:
    """An update that waits to be uploaded."""
    store.new_update.write_bytes(CONTENT)
    return store.take_update(CHUNK_BYTES)


@pytest.fixture
def aggregator(mosquitto: Mosquitto, topics: Topics) -> Iterator[Peer]:
    with Peer(mosquitto.settings("aggregator"), "aggregator", topics.filter(UPDATE_CHUNK)) as peer:
        yield peer


def test_granted_chunks_go_out_a_few_at_a_time(
    uploads: Uploads, update: BlobRef, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    assert uploads.send(update, (3, 1, 4, 1, 5, 9, 2, 6)) == []
    while uploads._in_flight:
        assert len(uploads._in_flight) <= MAX_IN_FLIGHT
        uploads.acknowledged(device.until(Acknowledged).ticket)
    for index in (3, 1, 4, 5, 9, 2, 6):
        received = aggregator.until(Received)
        assert received.topic == topics.topic(
            UPDATE_CHUNK, device=DEVICE, transfer=update.transfer, index=index
        )
        assert received.payload == CONTENT[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]


def test_more_chunks_of_one_update_join_those_under_way(
    uploads: Uploads, update: BlobRef, device: Peer, aggregator: Peer
) -> None:
    uploads.send(update, (0, 1))
    uploads.send(update, (2,))
    for _ in range(3):
        uploads.acknowledged(device.until(Acknowledged).ticket)
    sent = [int(aggregator.until(Received).topic.rpartition("/")[2]) for _ in range(3)]
    assert sent == [0, 1, 2]
    assert uploads.bytes_up == 3 * CHUNK_BYTES


@pytest.mark.parametrize(("chunk_bytes", "at_once"), [(96 << 10, 3), (256 << 10, 1), (1 << 20, 1)])
def test_of_large_chunks_fewer_go_out_at_a_time(
    uploads: Uploads, store: Store, chunk_bytes: int, at_once: int
) -> None:
    store.new_update.write_bytes(bytes(4 * chunk_bytes))
    assert uploads.send(store.take_update(chunk_bytes), tuple(range(4))) == []
    assert len(uploads._in_flight) == at_once


@pytest.mark.parametrize("ticket", [-1, 1 << 20])
def test_what_the_broker_took_that_was_no_chunk_sends_no_more_chunks(
    uploads: Uploads, update: BlobRef, ticket: int
) -> None:
    uploads.send(update, tuple(range(9)))
    before = set(uploads._in_flight)
    assert uploads.acknowledged(ticket) == []
    assert uploads._in_flight == before
    assert len(before) == MAX_IN_FLIGHT


def test_an_upload_whose_file_is_gone_is_told(uploads: Uploads, update: BlobRef, store: Store) -> None:
    store.delete_update(update.transfer)
    (lost,) = uploads.send(update, (0,))
    assert isinstance(lost, UpdateLost)
    assert lost.transfer == update.transfer


def test_nothing_waits_for_a_connection_that_is_not_there(
    uploads: Uploads, update: BlobRef, device: Peer
) -> None:
    device.session.stop()
    assert uploads.send(update, (0, 1)) == []
    assert not uploads._waiting
    assert not uploads._in_flight


def test_a_settled_update_leaves_the_card_and_goes_out_no_more(
    uploads: Uploads, update: BlobRef, store: Store
) -> None:
    uploads.send(update, (0, 1, 2, 3))
    uploads.delete(update.transfer)
    assert not uploads._in_flight
    with pytest.raises(StorageError, match="cannot be read"):
        store.read_chunk(update, 0)
