"""Downloads and uploads of the agent where something comes twice, too soon, or of an earlier life."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.events import Acknowledged, Received
from broker.mosquitto import Mosquitto
from broker.partfile import PartFile
from broker.topics import UPDATE_CHUNK, Topics
from edge_agent.downloads import STALL_S, Downloads
from edge_agent.events import Fetched, FetchFailed, FetchFault
from edge_agent.store import Store
from edge_agent.uploads import MAX_IN_FLIGHT, Uploads
from tests.broker.peer import Peer
from tests.edge_agent.test_transfers import CONTENT, REF, publish, take_all, take_one, update_in

WINDOW = 16


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


def complete_part(store: Store, content: bytes) -> None:
    """What is left when the power fails between the last chunk and the check of the whole."""
    part = PartFile(store.blob(REF), REF)
    for index in range(REF.chunks):
        part.write(index, content[index * 1024 : (index + 1) * 1024])


def test_a_blob_that_is_asked_for_again_goes_on_arriving(
    store: Store, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    publish(aggregator, topics)
    downloads = Downloads(store, device.session, topics)
    downloads.fetch([REF], 0)
    take_one(downloads, device, topics)
    assert downloads.fetch([REF], 1) == []
    assert take_all(downloads, device, topics) == [Fetched(REF.digest)]
    assert downloads.bytes_down == len(CONTENT)


def test_a_new_connection_subscribes_to_what_is_still_missing(
    store: Store, device: Peer, aggregator: Peer, topics: Topics, mosquitto: Mosquitto
) -> None:
    publish(aggregator, topics)
    downloads = Downloads(store, device.session, topics)
    downloads.fetch([REF], 0)
    for _ in range(3):
        take_one(downloads, device, topics)
    with Peer(mosquitto.settings("pi-2"), "pi-2") as later:
        # The session of the next connection: the broker knows no subscription of it.
        downloads._session = later.session
        downloads.connected(7)
        assert downloads.next_deadline() == 7 + STALL_S
        assert take_all(downloads, later, topics) == [Fetched(REF.digest)]
    assert downloads.bytes_down == len(CONTENT)


def test_chunks_are_not_asked_for_again_before_their_time(
    store: Store, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    publish(aggregator, topics)
    downloads = Downloads(store, device.session, topics)
    downloads.fetch([REF], 0)
    for _ in range(WINDOW):
        device.until(Received)
    downloads.fire(STALL_S - 1)
    assert downloads.next_deadline() == STALL_S
    downloads.fire(STALL_S)
    assert downloads.next_deadline() == 2 * STALL_S


def test_a_blob_that_was_whole_before_a_power_cut_is_only_checked(
    store: Store, device: Peer, topics: Topics
) -> None:
    complete_part(store, CONTENT)
    downloads = Downloads(store, device.session, topics)
    assert downloads.fetch([REF], 0) == [Fetched(REF.digest)]
    assert store.blob(REF).read_bytes() == CONTENT
    assert downloads.next_deadline() is None


def test_a_blob_that_a_power_cut_tore_apart_fails_for_its_content_and_is_fetched_anew(
    store: Store, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    complete_part(store, bytes(len(CONTENT)))
    downloads = Downloads(store, device.session, topics)
    (outcome,) = downloads.fetch([REF], 0)
    assert isinstance(outcome, FetchFailed)
    assert (outcome.digest, outcome.fault) == (REF.digest, FetchFault.CONTENT)
    publish(aggregator, topics)
    assert downloads.fetch([REF], 0) == []
    assert take_all(downloads, device, topics) == [Fetched(REF.digest)]


def test_a_blob_whose_content_is_wrong_fails_with_its_last_chunk(
    store: Store, device: Peer, topics: Topics, tmp_path: Path
) -> None:
    downloads = Downloads(store, device.session, topics)
    downloads.fetch([REF], 0)
    outcomes = []
    for index in range(REF.chunks):
        outcomes += downloads.chunk(REF.digest, index, CONTENT[index * 1024 : (index + 1) * 1024][::-1], 0)
    (outcome,) = outcomes
    assert isinstance(outcome, FetchFailed)
    assert outcome.fault is FetchFault.CONTENT
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(REF.digest)]


def test_more_chunks_of_one_update_join_those_under_way(
    store: Store, device: Peer, aggregator: Peer, topics: Topics
) -> None:
    update = update_in(store)
    uploads = Uploads(store, device.session, topics, "pi-1")
    uploads.send(update, (0, 1))
    uploads.send(update, (2,))
    for _ in range(3):
        uploads.acknowledged(device.until(Acknowledged).ticket)
    sent = [int(aggregator.until(Received).topic.rpartition("/")[2]) for _ in range(3)]
    assert sent == [0, 1, 2]
    assert uploads.bytes_up == 3 * 1024


@pytest.mark.parametrize("ticket", [-1, 1 << 20])
def test_what_the_broker_took_that_was_no_chunk_sends_no_more_chunks(
    store: Store, device: Peer, topics: Topics, ticket: int
) -> None:
    uploads = Uploads(store, device.session, topics, "pi-1")
    uploads.send(update_in(store), tuple(range(9)))
    before = set(uploads._in_flight)
    assert uploads.acknowledged(ticket) == []
    assert uploads._in_flight == before
    assert len(before) == MAX_IN_FLIGHT
