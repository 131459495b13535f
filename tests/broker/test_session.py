import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from broker.events import (
    Acknowledged,
    Connected,
    Disconnected,
    Received,
    Refused,
    SessionEvent,
    TakenOver,
    Unreachable,
)
from broker.messages import MAX_CHUNK_BYTES
from broker.mosquitto import Mosquitto
from broker.session import MAX_PACKET_BYTES, Session, Will, draw_pause_s, longest_pause_s
from broker.settings import BrokerSettings
from broker.topics import FEDERATION, HEARTBEAT, INBOX, OFFER, PRESENCE, Topics
from host.errors import ConfigError
from host.inbox import Inbox
from tests.broker.peer import PATIENCE_S, Peer

OPEN_FILES = Path("/proc/self/fd")
CHILD = """
import sys, threading
from pathlib import Path
from broker.session import Session, Will
from broker.settings import BrokerSettings

settings = BrokerSettings(federation="lab", url=sys.argv[1], username="pi-1", password_file=Path(sys.argv[2]))
session = Session(
    settings,
    "pi-1",
    lambda event: print(type(event).__name__, getattr(event, "connection", ""), flush=True),
    will=lambda connection: Will(sys.argv[3], b"death of " + connection.encode()),
    subscriptions=[],
)
session.start()
threading.Event().wait()
"""


@pytest.fixture
def device(mosquitto: Mosquitto) -> BrokerSettings:
    return mosquitto.settings("pi-1")


@pytest.fixture
def presence(topics: Topics) -> str:
    return topics.topic(PRESENCE, device="pi-1")


def test_what_is_subscribed_on_connect_is_received(device: BrokerSettings, presence: str) -> None:
    with Peer(device, "pi-1", presence) as peer:
        assert peer.session.connected
        peer.session.publish(presence, b"birth")
        assert peer.until(Received) == Received(presence, b"birth", retained=False, expiry_s=None)


def test_each_connection_has_an_id_of_its_own(device: BrokerSettings) -> None:
    with Peer(device, "pi-1") as first, Peer(device, "pi-1") as second:
        assert len(first.connection) == len(second.connection) == 16
        assert int(first.connection, 16) != int(second.connection, 16)


def test_two_machines_of_one_name_do_not_evict_each_other(device: BrokerSettings, presence: str) -> None:
    with Peer(device, "pi-1", presence) as first, Peer(device, "pi-1", presence) as second:
        assert second.send(presence, b"from the second").ok
        assert first.until(Received).payload == b"from the second"
        assert first.session.connected
        assert second.session.connected


def test_a_fixed_client_id_is_used(device: BrokerSettings) -> None:
    fixed = device.model_copy(update={"client_id": "only-me"})
    with Peer(fixed, "pi-1") as first, Peer(fixed, "pi-1"):
        assert first.until(Disconnected)  # the broker knows one client by one id


def test_a_denied_publish_is_acknowledged_as_denied(device: BrokerSettings, topics: Topics) -> None:
    with Peer(device, "pi-1") as peer:
        answer = peer.send(topics.topic(PRESENCE, device="pi-2"), b"x")
        assert (answer.ok, answer.reason) == (False, "Not authorized")


def test_tickets_are_answered_once_each(device: BrokerSettings, topics: Topics) -> None:
    with Peer(device, "pi-1") as peer:
        offer, heartbeat = topics.topic(OFFER, device="pi-1"), topics.topic(HEARTBEAT, device="pi-1")
        tickets = [
            peer.session.publish(
                heartbeat if number % 3 == 0 else offer, b"x" * number, qos=min(number % 3, 1)
            )
            for number in range(300)
        ]
        answered = [peer.until(Acknowledged).ticket for _ in tickets]
        assert sorted(answered) == tickets
        assert len(set(tickets)) == 300


def test_only_the_sessions_thread_touches_the_socket(device: BrokerSettings, topics: Topics) -> None:
    threads: Inbox[tuple[str, SessionEvent]] = Inbox(1000)
    session = Session(
        device,
        "pi-1",
        lambda event: threads.put((threading.current_thread().name, event)),
        will=lambda _: Will("w", b""),
        subscriptions=[],
    )
    session.start()
    events = [threads.get(PATIENCE_S)]
    for _ in range(50):
        # A message of QoS 0 is answered by the thread that wrote it.
        session.publish(topics.topic(HEARTBEAT, device="pi-1"), b"x", qos=0)
        events.append(threads.get(PATIENCE_S))
    session.stop()
    assert {event[0] for event in events if event is not None} == {"session pi-1"}
    assert None not in events


def test_tickets_of_two_connections_differ(
    mosquitto: Mosquitto, device: BrokerSettings, presence: str
) -> None:
    with Peer(device, "pi-1") as peer:
        before = peer.send(presence, b"x").ticket
        mosquitto.kill()
        peer.until(Disconnected)
        mosquitto.start()
        peer.online()
        assert peer.send(presence, b"x").ticket > before


def test_what_is_unanswered_is_bounded(mosquitto: Mosquitto, device: BrokerSettings, topics: Topics) -> None:
    for qos, branch in ((1, OFFER), (0, HEARTBEAT)):
        payload = bytes(100_000)
        with Peer(device.model_copy(update={"max_queued": 200}), "pi-1") as peer:
            topic = topics.topic(branch, device="pi-1")
            os.kill(mosquitto.pid, signal.SIGSTOP)
            try:
                tickets = [peer.session.publish(topic, payload, qos=qos) for _ in range(400)]
            finally:
                os.kill(mosquitto.pid, signal.SIGCONT)
            taken = [ticket for ticket in tickets if ticket is not None]
            # With QoS 0 what the socket took is answered, and makes room.
            assert 200 <= len(taken) < (201 if qos else 400)
            assert [peer.until(Acknowledged).ticket for _ in taken] == taken
            assert peer.send(topic, b"x").ok


def test_nothing_is_published_before_the_connection_or_after_the_end(
    device: BrokerSettings, presence: str
) -> None:
    peer = Peer(device.model_copy(update={"url": "mqtt://127.0.0.1:1"}), "pi-1")
    peer.until(Unreachable)
    assert peer.session.publish(presence, b"x") is None
    peer.session.subscribe([(presence, 1)])
    peer.session.unsubscribe([presence])
    assert not peer.session.connected
    peer.session.stop()
    with Peer(device, "pi-1") as connected:
        pass
    assert connected.session.publish(presence, b"x") is None
    assert not connected.session.connected


def test_subscriptions_are_added_and_removed_in_many_packets(
    mosquitto: Mosquitto, device: BrokerSettings, topics: Topics
) -> None:
    blobs = [f"{topics.root}/blobs/{'a' * 64}/{index}" for index in range(150)]
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator, Peer(device, "pi-1") as peer:
        assert all(aggregator.send(blob, b"old", retain=True).ok for blob in blobs)
        peer.session.subscribe([(blob, 1) for blob in blobs])
        received = [peer.until(Received) for _ in blobs]
        assert sorted(event.topic for event in received) == sorted(blobs)
        assert all(event.retained for event in received)
        peer.session.unsubscribe(blobs[1:])
        inbox = topics.topic(INBOX, device="pi-1")
        peer.session.subscribe([(inbox, 1)])
        # A denied publish is answered after the broker has read what came before it.
        peer.send("elsewhere", b"")
        assert all(aggregator.send(topic, b"new").ok for topic in (*reversed(blobs), inbox))
        assert [peer.until(Received).topic for _ in range(2)] == [blobs[0], inbox]


def test_a_late_subscriber_reads_what_is_left_of_the_expiry(
    mosquitto: Mosquitto, device: BrokerSettings, topics: Topics
) -> None:
    topic = topics.topic(FEDERATION)
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator, Peer(device, "pi-1") as peer:
        assert aggregator.send(topic, b"x", retain=True, expiry_s=1000).ok
        deadline, left = time.monotonic() + PATIENCE_S, 1000
        while left > 998 and time.monotonic() < deadline:
            peer.session.subscribe([(topic, 1)])
            left = peer.until(Received).expiry_s or 0
        assert 900 < left <= 998


def test_the_will_is_published_when_the_process_is_killed(
    mosquitto: Mosquitto, device: BrokerSettings, presence: str
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, device.url, str(device.password_file), presence],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with child, Peer(mosquitto.settings("aggregator"), "aggregator", presence) as aggregator:
        assert child.stdout is not None
        name, connection = child.stdout.readline().split()
        child.kill()
        assert name == "Connected"
        death = aggregator.until(Received)
        assert (death.payload, death.topic) == (f"death of {connection}".encode(), presence)


def test_a_farewell_comes_and_the_will_does_not(
    mosquitto: Mosquitto, device: BrokerSettings, topics: Topics, presence: str
) -> None:
    with Peer(mosquitto.settings("aggregator"), "aggregator", f"{topics.root}/#") as aggregator:
        peer = Peer(device, "pi-1", will=lambda _: Will(presence, b"will")).online()
        peer.session.stop(Will(presence, b"farewell"))
        with Peer(device, "pi-1") as other:
            assert other.send(topics.topic(OFFER, device="pi-1"), b"last").ok
        assert [event.payload for event in aggregator.receive_until(b"last")] == [b"farewell"]


def test_the_session_comes_back_after_the_broker_was_killed_without_what_was_queued(
    mosquitto: Mosquitto, device: BrokerSettings, topics: Topics, presence: str
) -> None:
    with (
        Peer(mosquitto.settings("aggregator"), "aggregator", f"{topics.root}/#") as aggregator,
        Peer(device, "pi-1", presence) as peer,
    ):
        first = peer.connection
        os.kill(mosquitto.pid, signal.SIGSTOP)
        for _ in range(50):
            assert peer.session.publish(presence, b"old birth", retain=True) is not None
        mosquitto.kill()
        peer.until(Disconnected)
        aggregator.until(Disconnected)
        peer.until(Unreachable)
        mosquitto.start()
        aggregator.online()
        assert peer.online().connection != first
        assert peer.send(presence, b"new birth", retain=True).ok
        assert aggregator.receive_until(b"new birth") == []


def test_other_settings_are_used_from_the_next_connection_on_which_comes_at_once(
    mosquitto: Mosquitto, device: BrokerSettings
) -> None:
    slow = device.model_copy(update={"reconnect_min_s": 3600, "reconnect_max_s": 3600})
    with Peer(slow, "pi-1") as peer:
        peer.session.use(mosquitto.settings("pi-2"))
        peer.until(Disconnected)
        peer.until(Connected)
        assert peer.send(Topics("lab").topic(OFFER, device="pi-2"), b"").ok
        assert not peer.send(Topics("lab").topic(OFFER, device="pi-1"), b"").ok


def test_refusals_are_counted_until_the_broker_accepts(device: BrokerSettings, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    peer = Peer(device.model_copy(update={"password_file": password}), "pi-1")
    refusals = [peer.until(Refused) for _ in range(3)]
    assert [refusal.in_a_row for refusal in refusals] == [1, 2, 3]
    assert refusals[0].reason == "Not authorized"
    # The file is read again for every connection.
    assert device.password_file is not None
    password.write_text(device.password_file.read_text())
    peer.online()
    peer.session.stop()


def test_a_password_that_cannot_be_read_is_told_at_the_start(device: BrokerSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        Peer(device.model_copy(update={"password_file": tmp_path / "none"}), "pi-1")


def test_an_unreachable_broker_is_tried_until_it_is_there(
    mosquitto: Mosquitto, device: BrokerSettings
) -> None:
    mosquitto.stop()
    peer = Peer(device, "pi-1")
    for _ in range(3):
        assert "refused" in peer.until(Unreachable).reason
    mosquitto.start()
    peer.online()
    peer.session.stop()


def test_a_host_that_does_not_exist_is_unreachable(device: BrokerSettings) -> None:
    peer = Peer(device.model_copy(update={"url": "mqtt://no-such-host.invalid"}), "pi-1")
    assert peer.until(Unreachable).reason
    peer.session.stop()


def test_a_server_that_never_answers_is_unreachable(device: BrokerSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        peer = Peer(device.model_copy(update={"url": url, "connect_timeout_s": 0.2}), "pi-1")
        assert peer.until(Unreachable).reason == "no answer to CONNECT within 0.2 s"
        peer.session.stop()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x02\x00",
        b"\x20\x03\x00\x00\x09",
        b"\xf0\x00",
        b"\x20\xff\xff\xff\xff",
    ],
    ids=lambda answer: answer[:4].hex(),
)
def test_a_server_that_speaks_nonsense_is_unreachable(device: BrokerSettings, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        peer = Peer(device.model_copy(update={"url": url}), "pi-1")
        connection, _ = server.accept()
        with connection:
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            assert peer.until(Unreachable).reason
        peer.session.stop()


def test_a_broker_without_mqtt_5_refuses(device: BrokerSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        peer = Peer(device.model_copy(update={"url": url}), "pi-1")
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"\x20\x02\x00\x01")
            assert peer.until(Refused).reason == "Unsupported protocol version"
        peer.session.stop()


def test_a_packet_that_is_too_large_ends_the_connection(device: BrokerSettings, topics: Topics) -> None:
    with Peer(device, "pi-1") as peer:
        peer.session.publish(topics.topic(OFFER, device="pi-1"), bytes(2_000_001))
        # The broker says so and closes at once: what it says may be lost with the bytes that it did not read.
        reason = peer.until(Disconnected).reason
        assert re.search("Packet too large|reset by peer|Broken pipe", reason)
        peer.online()


def test_an_owner_that_raises_costs_a_connection_and_not_the_session(
    device: BrokerSettings, presence: str
) -> None:
    inbox: Inbox[SessionEvent] = Inbox(100)

    def fail_once(event: SessionEvent) -> None:
        inbox.put(event)
        if isinstance(event, Received) and event.payload == b"trap":
            raise RuntimeError("the owner's mistake")

    settings = device.model_copy(update={"reconnect_min_s": 0.02})
    session = Session(
        settings, "pi-1", fail_once, will=lambda _: Will(presence, b""), subscriptions=[(presence, 1)]
    )
    session.start()
    assert isinstance(inbox.get(PATIENCE_S), Connected)
    session.publish(presence, b"trap")
    while not isinstance(ended := inbox.get(PATIENCE_S), Disconnected):
        assert ended is not None
    assert "the owner's mistake" in ended.reason
    assert isinstance(inbox.get(PATIENCE_S), Connected)
    session.stop()


def test_a_session_that_was_never_started_can_be_stopped(device: BrokerSettings) -> None:
    Session(device, "pi-1", print, will=lambda _: Will("w", b""), subscriptions=[]).stop()


def test_pauses_are_jittered_and_bounded(device: BrokerSettings) -> None:
    settings = device.model_copy(update={"reconnect_min_s": 0.5, "reconnect_max_s": 8.0})
    for attempt, ceiling in ((1, 0.5), (2, 1.0), (4, 4.0), (5, 8.0), (6, 8.0), (10_000, 8.0)):
        assert longest_pause_s(settings, attempt) == ceiling
        pauses = [draw_pause_s(settings, attempt) for _ in range(300)]
        assert 0 <= min(pauses) < ceiling / 4
        assert ceiling * 3 / 4 < max(pauses) <= ceiling


def test_after_a_connection_that_held_a_fleet_spreads_wider(device: BrokerSettings) -> None:
    settings = device.model_copy(update={"reconnect_min_s": 0.5, "reconnect_max_s": 60.0})
    pauses = sorted(draw_pause_s(settings, 1, 5.0) for _ in range(500))
    # Of 500 devices, no tenth of the window has more than about twice its share.
    shares = [sum(begin <= pause < begin + 0.5 for pause in pauses) for begin in (i / 2 for i in range(10))]
    assert sum(shares) == 500
    assert max(shares) < 100
    assert longest_pause_s(settings, 5, 5.0) == 8.0
    assert longest_pause_s(settings.model_copy(update={"reconnect_max_s": 2.0}), 1, 5.0) == 2.0


def test_the_broker_keeps_what_is_larger_than_any_message_from_us(
    mosquitto: Mosquitto, device: BrokerSettings, topics: Topics
) -> None:
    topic = topics.topic(FEDERATION)
    with (
        Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator,
        Peer(device, "pi-1", topic) as peer,
    ):
        largest = bytes(MAX_CHUNK_BYTES)
        assert aggregator.send(topic, largest).ok
        assert peer.until(Received).payload == largest
        assert aggregator.send(topic, bytes(MAX_PACKET_BYTES)).ok
        assert aggregator.send(topic, b"last").ok
        assert peer.receive_until(b"last") == []
        assert peer.session.connected


def test_an_attempt_to_connect_is_not_waited_for(device: BrokerSettings) -> None:
    with socket.socket() as full, socket.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        url = f"mqtt://127.0.0.1:{full.getsockname()[1]}"
        peer = Peer(device.model_copy(update={"url": url, "connect_timeout_s": 60}), "pi-1")
        peer.session.stop()
        assert peer.session._thread.is_alive()
    # Nobody is there any more: the attempt ends.
    peer.session._thread.join(PATIENCE_S)
    assert not peer.session._thread.is_alive()


def test_connections_one_after_the_other_leave_nothing_open(device: BrokerSettings, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    before, threads = len(list(OPEN_FILES.iterdir())), threading.active_count()
    for change in ({"password_file": password}, {"url": "mqtt://127.0.0.1:1"}):
        peer = Peer(device.model_copy(update=change), "pi-1")
        for _ in range(20):
            peer.until(Refused if "password_file" in change else Unreachable)
        peer.session.stop()
    assert len(list(OPEN_FILES.iterdir())) == before
    assert threading.active_count() == threads


def test_a_session_that_yields_ends_when_its_client_id_is_taken_over() -> None:
    """Mosquitto 2.0 keeps the reason to itself; other brokers send it, as MQTT 5 wants."""
    connack, taken_over = bytes.fromhex("2003000000"), bytes.fromhex("e0028e00")
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = BrokerSettings(url=f"mqtt://127.0.0.1:{server.getsockname()[1]}")
        inbox: Inbox[SessionEvent] = Inbox(100)
        session = Session(settings, "first", inbox.put, will=None, subscriptions=(), yields=True)
        session.start()
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(connack)
            assert isinstance(inbox.get(20.0), Connected)
            connection.sendall(taken_over)
            event = inbox.get(20.0)
    assert isinstance(event, TakenOver)
    assert "taken over" in event.reason
    session._thread.join(20.0)
    assert not session._thread.is_alive(), "it does not connect again"
