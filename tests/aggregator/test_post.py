import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.post import DOCUMENTS_IN_FLIGHT, Post, farewell
from broker.events import Acknowledged, Received
from broker.messages import Announcement, Federation, Invite
from broker.mosquitto import Mosquitto
from broker.signing import Signer, unseal
from broker.topics import FEDERATION, HEARTBEAT, INBOX, MONITOR_AGGREGATOR, ROUND, Topics
from broker.wire import decode
from tests.broker.examples import ASSIGNMENT
from tests.broker.peer import Peer


@pytest.fixture
def peer(mosquitto: Mosquitto) -> Iterator[Peer]:
    with Peer(mosquitto.settings("aggregator"), "aggregator") as made:
        yield made


@pytest.fixture
def device(mosquitto: Mosquitto, topics: Topics) -> Iterator[Peer]:
    """A device whose subscriptions stand."""
    branches = [topics.topic(FEDERATION), topics.topic(ROUND), topics.topic(INBOX, device="pi-1")]
    with Peer(mosquitto.settings("pi-1"), "device", *branches) as made:
        made.send(topics.topic(HEARTBEAT, device="pi-1"), b"here")
        yield made


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(tmp_path / "signing.key")


@pytest.fixture
def post(peer: Peer, topics: Topics, signer: Signer) -> Post:
    return Post(peer.session, topics, 7, "0.1.0", 5.0, signer)


def receive_one(peer: Peer) -> Received:
    return peer.until(Received)


def announced(message: Received) -> Announcement:
    return unseal(message.topic, message.payload, None)


def test_the_federation_hears_who_aggregates_and_its_rhythm(post: Post, device: Peer, signer: Signer) -> None:
    post.introduce()
    heard = decode(Federation, receive_one(device).payload)
    assert (heard.session, heard.version, heard.heartbeat_s) == (7, "0.1.0", 5.0)
    assert heard.aggregator_key == signer.public_key


def test_announcements_carry_the_session_a_rising_sequence_and_the_time_that_is_left(
    post: Post, device: Peer, signer: Signer
) -> None:
    post.announce(ASSIGNMENT, 99.2)
    post.announce(None, None)
    first, second = receive_one(device), receive_one(device)
    one, other = (unseal(said.topic, said.payload, signer.public_key) for said in (first, second))
    assert (one.session, one.sequence, one.assignment) == (7, 1, ASSIGNMENT)
    assert (other.session, other.sequence, other.assignment) == (7, 2, None)
    assert first.expiry_s in (99, 100)
    assert second.expiry_s is None


def test_a_device_finds_its_messages_in_its_inbox(post: Post, device: Peer, topics: Topics) -> None:
    post.to_device("pi-1", Invite(run="run-1", round=3))
    heard = receive_one(device)
    assert heard.topic == topics.topic(INBOX, device="pi-1")
    assert decode(Invite, heard.payload) == Invite(run="run-1", round=3)


def test_an_announcement_that_finds_the_queue_full_is_sent_later(
    mosquitto: Mosquitto, topics: Topics, device: Peer, signer: Signer
) -> None:
    settings = mosquitto.settings("aggregator").model_copy(update={"max_queued": 1})
    with Peer(settings, "aggregator") as peer:
        post = Post(peer.session, topics, 7, "0.1.0", 5.0, signer)
        os.kill(mosquitto.pid, signal.SIGSTOP)  # or it may acknowledge before the queue was found full
        assert post.document(topics.topic(MONITOR_AGGREGATOR), b"{}")
        post.announce(ASSIGNMENT, 50.0)
        post.announce(None, 60.0)
        os.kill(mosquitto.pid, signal.SIGCONT)
        peer.until(Acknowledged)
        post.pump()
        heard = receive_one(device)
        post.pump()
    assert announced(heard).sequence == 2, "the older one is of no use"
    assert heard.expiry_s is not None
    assert 50 < heard.expiry_s <= 60


def test_an_announcement_of_before_the_connection_is_not_sent_on_it(
    mosquitto: Mosquitto, topics: Topics, signer: Signer
) -> None:
    settings = mosquitto.settings("aggregator")
    mosquitto.stop()
    peer = Peer(settings, "aggregator")
    post = Post(peer.session, topics, 7, "0.1.0", 5.0, signer)
    post.announce(ASSIGNMENT, 50.0)
    mosquitto.start()
    with peer, Peer(mosquitto.settings("pi-1"), "device", topics.topic(ROUND)) as device:
        device.send(topics.topic(HEARTBEAT, device="pi-1"), b"here")
        post.introduce()
        post.pump()
        post.announce(None, None)
        assert announced(receive_one(device)).sequence == 2


def test_documents_leave_room_in_the_queue_for_what_devices_wait_for(
    post: Post, peer: Peer, topics: Topics, device: Peer
) -> None:
    topic = topics.topic(MONITOR_AGGREGATOR)
    sent = [post.document(topic, b"{}") for _ in range(DOCUMENTS_IN_FLIGHT + 5)]
    assert sent == [True] * DOCUMENTS_IN_FLIGHT + [False] * 5
    post.announce(None, None)
    assert announced(receive_one(device)).sequence == 1
    answer = peer.until(Acknowledged)
    post.acknowledged(answer.ticket, ok=answer.ok, reason=answer.reason)
    assert post.document(topic, b"{}")
    assert not post.document(topic, b"{}")
    post.disconnected()
    assert post.document(topic, b"{}")


def test_what_the_broker_denies_is_complained_of_once_a_branch(
    mosquitto: Mosquitto, topics: Topics, signer: Signer, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer(mosquitto.settings("operator"), "aggregator") as peer:
        post = Post(peer.session, topics, 7, "0.1.0", 5.0, signer)
        for _ in range(2):
            post.announce(None, None)
            post.document(topics.topic(MONITOR_AGGREGATOR), b"{}")
        for _ in range(4):
            answer = peer.until(Acknowledged)
            post.acknowledged(answer.ticket, ok=answer.ok, reason=answer.reason)
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [
        f"the broker refused {branch}: Not authorized; the aggregator's account needs the right to write it"
        for branch in ("round", "monitor/#")
    ]


def test_the_farewell_says_that_the_aggregator_is_gone(topics: Topics) -> None:
    will = farewell(topics, 7, "0.1.0")
    assert (will.topic, will.retain) == (topics.topic(MONITOR_AGGREGATOR), True)
    assert b'"online":false' in will.payload
