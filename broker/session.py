"""A lasting session with the broker over connections that do not last: the only importer of paho.

One thread makes one connection after the other, each with a fresh paho client, so that nothing left in the
queue of the last connection (an old birth above all) is sent on the next. paho 2.2 is driven by `Client.loop`
in that thread; because a register-write callback is set, `publish` only queues and wakes the loop, and the
socket is touched by no other thread.

ws:// and wss:// carry small messages; paho 2.2 with Mosquitto 2.0 did not deliver chunks of 96 KiB over them.
"""

import contextlib
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple, TypeVar

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from broker.events import (
    Acknowledged,
    Connected,
    Disconnected,
    Received,
    Refused,
    SessionEvent,
    Subscribed,
    TakenOver,
    Unreachable,
)
from broker.messages import MAX_CHUNK_BYTES
from broker.settings import BrokerSettings
from broker.tls import client_context, is_refusal
from host.errors import ConfigError

FILTERS_PER_PACKET = 64
# A chunk, and room for its topic and properties.
MAX_PACKET_BYTES = MAX_CHUNK_BYTES + (64 << 10)
LOOP_S = 0.5
FAREWELL_S = 2.0
HELD_S = 10.0
TICKET_MID_BITS = 16
# CONNACK: protocol version, client id, user name or password, authorisation, ban, authentication method.
REFUSALS = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
SESSION_TAKEN_OVER = 0x8E
Item = TypeVar("Item")
log = logging.getLogger(__name__)


class Will(NamedTuple):
    """A message that speaks for us when we cannot, or a last word; sent with QoS 1."""

    topic: str
    payload: bytes
    retain: bool = True


class Session:
    """Connects, and connects again with full-jitter exponential back-off, until it is stopped.

    One that `yields` ends when another client takes its client id over, instead of taking it back.
    `on_event` is called from the session's thread and must only enqueue. `publish`, `subscribe`,
    `unsubscribe` and `stop` are for one owner's thread. `spread_s` is the longest first pause after a
    connection that held: what ended it may have ended those of a whole fleet.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        name: str,
        on_event: Callable[[SessionEvent], object],
        *,
        will: Callable[[str], Will] | None,
        subscriptions: Sequence[tuple[str, int]],
        yields: bool = False,
        spread_s: float = 0.0,
    ) -> None:
        self._yields = yields
        self._settings = settings
        self._spread_s = spread_s
        self._name = name
        self._emit = on_event
        self._will = will
        self._subscriptions = tuple(subscriptions)
        self._open: tuple[Client, _Link] | None = None
        self._refusals = 0
        self._changes_over = False
        self._stopping = threading.Event()
        self._stop_by = float("inf")
        self._thread = threading.Thread(target=self._supervise, name=f"session {name}", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the current connection."""
        current = self._open
        return current is not None and current[1].accepted

    def start(self) -> None:
        """Begin to connect; raises ConfigError when the password, a certificate or a key cannot be read."""
        self._settings.password()
        client_context(self._settings)
        self._thread.start()

    def use(self, settings: BrokerSettings) -> None:
        """Connect with other settings from now on, and at once if connected."""
        self._settings = settings
        current = self._open
        if current is not None and current[1].accepted:
            self._changes_over = True
            current[0].disconnect()

    def stop(self, farewell: Will | None = None) -> None:
        """Publish `farewell`, wait shortly until the broker has it, disconnect without a will, end.

        An attempt to connect is not waited for: its thread ends with it, or with the process.
        """
        self._stop_by = time.monotonic() + 2 * FAREWELL_S
        current = self._open
        if current is not None and current[1].accepted:
            if farewell is not None:
                info = current[0].publish(farewell.topic, farewell.payload, 1, farewell.retain)
                with contextlib.suppress(RuntimeError, ValueError):
                    info.wait_for_publish(FAREWELL_S)
            current[0].disconnect()
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2 * FAREWELL_S)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> int | None:
        """Queue a message; None when not connected or when `max_queued` messages wait for their answer.

        Otherwise a ticket, which `Acknowledged` names: unlike any other that is still to be answered, also of
        other connections. The answer can come before this returns.
        """
        current = self._open
        if current is None or not current[1].accepted:
            return None
        client, link = current
        if link.sent - link.answered >= self._settings.max_queued:
            return None
        info = client.publish(topic, payload, qos, retain, _expiry(expiry_s))
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        link.sent += 1
        return link.ticket(info.mid)

    def subscribe(self, filters: Sequence[tuple[str, int]]) -> None:
        """Subscribe to (filter, QoS) for as long as this connection lasts; nothing while disconnected."""
        current = self._open
        if current is not None and current[1].accepted:
            _subscribe(current[0], filters)

    def unsubscribe(self, filters: Sequence[str]) -> None:
        """Undo subscriptions; nothing while disconnected."""
        current = self._open
        if current is not None and current[1].accepted:
            for batch in _batches(filters):
                current[0].unsubscribe(batch)

    def _supervise(self) -> None:
        attempt = 0
        for generation in count(1):
            began = time.monotonic()
            accepted = self._connect_once(generation)
            if self._stopping.is_set():
                return
            attempt = 1 if accepted and time.monotonic() - began > HELD_S else attempt + 1
            if self._changes_over:
                self._changes_over = False
                continue
            spread_s = self._spread_s if accepted else 0.0
            if self._stopping.wait(draw_pause_s(self._settings, attempt, spread_s)):
                return

    def _connect_once(self, generation: int) -> bool:
        """Hold one connection until it ends, and report the end; True when the broker had accepted it."""
        link = _Link(generation, secrets.token_hex(8), self._emit, self._subscriptions)
        try:
            self._hold(link)
        except (OSError, ConfigError) as error:
            link.note(str(error) or type(error).__name__)
        except Exception as error:
            log.exception("the session with the broker failed; connecting again")
            link.note(repr(error))
        finally:
            self._open = None
        self._report(link)
        return link.accepted

    def _hold(self, link: "_Link") -> None:
        endpoint = self._settings.endpoint
        client = _new_client(self._settings, self._name, link, self._will and self._will(link.connection))
        try:
            client.connect(
                endpoint.host,
                endpoint.port,
                self._settings.keepalive_s,
                clean_start=True,
                properties=_limits(),
            )
            self._open = client, link
            self._drive(client, link)
        finally:
            if (remaining := client.socket()) is not None:
                remaining.close()

    def _drive(self, client: Client, link: "_Link") -> None:
        answer_by = time.monotonic() + self._settings.connect_timeout_s
        while client.socket() is not None and client.loop(LOOP_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
            now = time.monotonic()
            if not link.accepted and now > answer_by:
                link.note(f"no answer to CONNECT within {self._settings.connect_timeout_s:g} s")
                return
            if self._stopping.is_set() and (not link.accepted or now > self._stop_by):
                return

    def _report(self, link: "_Link") -> None:
        reason = link.reason or "connection lost"
        if link.taken_over and self._yields:
            self._stopping.set()
            self._emit(TakenOver(reason))
        elif link.accepted:
            self._refusals = 0
            self._emit(Disconnected(reason))
        elif self._stopping.is_set():
            return
        elif link.refused or is_refusal(reason):
            self._refusals += 1
            self._emit(Refused(reason, self._refusals))
        else:
            self._emit(Unreachable(reason))


def longest_pause_s(settings: BrokerSettings, attempt: int, spread_s: float = 0.0) -> float:
    """The ceiling of the random pause before an attempt, counted from 1; at least `spread_s`.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ (full jitter)
    """
    doubled = settings.reconnect_min_s * 2.0 ** min(attempt - 1, 32)
    return min(max(doubled, spread_s), settings.reconnect_max_s)


def draw_pause_s(settings: BrokerSettings, attempt: int, spread_s: float = 0.0) -> float:
    """Draw that pause."""
    return random.uniform(0, longest_pause_s(settings, attempt, spread_s))  # noqa: S311 - no secret


@dataclass(slots=True)
class _Link:
    """What the callbacks of one connection share; it holds no client, so no cycle keeps sockets alive."""

    generation: int
    connection: str
    emit: Callable[[SessionEvent], object]
    subscriptions: tuple[tuple[str, int], ...]
    accepted: bool = False
    refused: bool = False
    taken_over: bool = False
    subscribed: bool = False
    reason: str = ""
    # Each is written by one thread only: the owner's, and the session's.
    sent: int = 0
    answered: int = 0

    def ticket(self, mid: int) -> int:
        return self.generation << TICKET_MID_BITS | mid

    def note(self, reason: str) -> None:
        """Keep the first reason: what follows is a consequence."""
        self.reason = self.reason or reason

    def on_connect(
        self, client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _: object
    ) -> None:
        if reason.is_failure:
            self.refused = reason.value in REFUSALS
            self.note(str(reason))
            return
        _subscribe(client, self.subscriptions)
        self.accepted = True
        self.emit(Connected(self.connection))

    def on_disconnect(
        self, _client: Client, _data: object, flags: DisconnectFlags, reason: ReasonCode, _: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self.taken_over = reason.value == SESSION_TAKEN_OVER
            self.note(f"the broker ended the connection: {reason}")
        elif str(reason) != "Unspecified error":
            self.note(str(reason))

    def on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        expiry_s = getattr(message.properties, "MessageExpiryInterval", None)
        self.emit(Received(topic, bytes(message.payload), message.retain, expiry_s))

    def on_publish(self, _client: Client, _data: object, mid: int, reason: ReasonCode, _: object) -> None:
        # paho holds its _out_message_mutex, as while the owner publishes: a lock around both would deadlock.
        self.answered += 1
        self.emit(Acknowledged(self.ticket(mid), not reason.is_failure, str(reason)))

    def on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _: object
    ) -> None:
        if refused := [str(reason) for reason in reasons if reason.is_failure]:
            log.warning(
                "the broker refused %d of %d subscriptions: %s", len(refused), len(reasons), refused[0]
            )
        if not self.subscribed:
            self.subscribed = True
            self.emit(Subscribed(not refused))


class _Complaints(logging.Handler):
    """Hands on what paho only logs: why a socket failed."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        self._note(record.getMessage())


def _new_client(settings: BrokerSettings, name: str, link: _Link, will: Will | None) -> Client:
    endpoint = settings.endpoint
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id or f"{name}-{link.connection}",
        protocol=MQTTProtocolVersion.MQTTv5,
        transport="tcp" if endpoint.path is None else "websockets",
        reconnect_on_failure=False,
    )
    client.connect_timeout = settings.connect_timeout_s
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password())
    if endpoint.path is not None:
        client.ws_set_options(path=endpoint.path)
    if (context := client_context(settings)) is not None:
        client.tls_set_context(context)
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
    _listen(client, link)
    return client


def _listen(client: Client, link: _Link) -> None:
    client.on_connect = link.on_connect
    client.on_disconnect = link.on_disconnect
    client.on_message = link.on_message
    client.on_publish = link.on_publish
    client.on_subscribe = link.on_subscribe
    client.on_socket_register_write = _leave_writing_to_the_loop
    # A logger's level is checked before paho formats anything; its on_log callback would format every packet.
    complaints = logging.Logger("paho", logging.ERROR)  # noqa: LOG001 - one for each connection, outside the tree
    complaints.addHandler(_Complaints(link.note))
    client.enable_logger(complaints)


def _leave_writing_to_the_loop(_client: Client, _data: Any, _socket: Any) -> None:  # noqa: ANN401 - paho's types
    """Keep `publish` from writing to the socket itself."""


def _limits() -> Properties:
    """Have the broker keep from us what no message of midge is as large as."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = MAX_PACKET_BYTES
    return properties


def _expiry(expiry_s: int | None) -> Properties | None:
    if expiry_s is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = expiry_s
    return properties


def _subscribe(client: Client, filters: Sequence[tuple[str, int]]) -> None:
    for batch in _batches(filters):
        client.subscribe(batch)


def _batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, FILTERS_PER_PACKET)):
        yield batch
