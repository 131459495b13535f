"""A session with the simulated broker: what `broker.session` promises, without sockets and threads."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from broker.events import Acknowledged, Connected, Disconnected, Unreachable
from broker.session import Session, Will
from broker.settings import BrokerSettings
from deploy.simulator.clock import Clock
from deploy.simulator.network import Broker, Line, Link, Packet, Payload, size_of

# The client library and the broker each allow one and a half keep-alives of silence (MQTT 5.0, 3.1.2.10).
SETTINGS = BrokerSettings(url="mqtt://simulated")
DEAD_LINK_S = 1.5 * SETTINGS.keepalive_s
CLOSED_LINK_S = 1.0
HELD_S = 10.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that came; unlike `broker.events.Received`, it was never bytes."""

    topic: str
    payload: Payload
    retained: bool


Happening = Connected | Disconnected | Unreachable | Acknowledged | Delivered


class SimulatedSession(Session):
    """Connects again and again, with full-jitter back-off, until it is closed."""

    def __init__(
        self,
        clock: Clock,
        broker: Broker,
        line: Line,
        hear: Callable[[Happening], None],
        *,
        last_words: Callable[[str], Payload] | None,
        presence: str,
        subscriptions: Sequence[str],
        reachable: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._line = line
        self._hear = hear
        self._last_words = last_words
        self._presence = presence
        self._names = tuple(subscriptions)
        self._reachable = reachable
        self._closed = False
        self._attempt = 0
        self._tickets = 0
        self._accepted_at = 0.0
        self.link: Link | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as we know."""
        return self.link is not None

    def start(self) -> None:
        """Begin to connect."""
        self._clock.after(self._line.delay_s, self._connect)

    def stop(self, farewell: Will | None = None) -> None:
        """Say goodbye; `farewell` is said as the will would have been, at once."""
        link, self.link, self._closed = self.link, None, True
        if link is not None:
            if farewell is not None and link.will is not None and link.passes and link.known:
                self._broker.take(link.will, retain=True)
            self._broker.leave(link)

    def die(self, *, power: bool) -> None:
        """End with the machine's power, or with the process, whose system closes the connection."""
        link, self.link, self._closed = self.link, None, True
        if link is not None:
            sees_s = self._clock.chance.uniform(0, DEAD_LINK_S if power else CLOSED_LINK_S)
            self._broker.break_link(link, client_sees_s=0.0, broker_sees_s=sees_s, flushed=not power)

    def cut(self, *, client_sees_s: float, broker_sees_s: float) -> None:
        """Let the connection break, if there is one."""
        if self.link is not None:
            self._broker.break_link(self.link, client_sees_s=client_sees_s, broker_sees_s=broker_sees_s)

    def publish(
        self,
        topic: str,
        payload: Payload,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> int | None:
        """Send a message; None when not connected, else a ticket, which `Acknowledged` names for QoS 1."""
        link = self.link
        if link is None:
            return None
        self._tickets += 1
        ticket = self._tickets
        expires_at = None if expiry_s is None else self._clock.now + expiry_s
        packet = Packet(topic, payload, qos, expires_at)
        size = size_of(payload)

        def arrive() -> None:
            self._broker.carried["up"] += size
            self._broker.take(packet, retain=retain)
            if qos:
                self._clock.after(self._line.delay_s, lambda: self._acknowledged(link, ticket))

        self._broker.send(link, size, arrive)
        return ticket

    def subscribe(self, filters: Iterable[tuple[str, int]]) -> None:
        """Subscribe for as long as this connection lasts."""
        link, names = self.link, tuple(name for name, _ in filters)
        if link is not None:
            self._broker.send(link, 0, lambda: self._broker.subscribe(link, names))

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Undo subscriptions."""
        link, names = self.link, tuple(filters)
        if link is not None:
            self._broker.send(link, 0, lambda: self._broker.unsubscribe(link, names))

    def _connect(self) -> None:
        if self._closed:
            return
        if not (self._broker.running and self._reachable()):
            self._hear(Unreachable("no way"))
            self._retry()
            return
        self._accepted_at = self._clock.now
        connection = f"{self._clock.chance.getrandbits(64):016x}"
        words = self._last_words and self._last_words(connection)
        will = None if words is None else Packet(self._presence, words, 1)
        link = Link(self._line, connection, self._deliver, self._lost, will)
        self._broker.accept(link)
        self.link = link
        self.subscribe([(name, 1) for name in self._names])
        self._hear(Connected(connection))

    def _retry(self) -> None:
        self._attempt += 1
        ceiling = min(SETTINGS.reconnect_min_s * 2.0 ** min(self._attempt, 32), SETTINGS.reconnect_max_s)
        self._clock.after(self._clock.chance.uniform(0, ceiling), self._connect)

    def _deliver(self, link: Link, packet: Packet, retained: bool) -> None:  # noqa: FBT001 - as Link has it
        if link is self.link:
            self._hear(Delivered(packet.topic, packet.payload, retained))

    def _acknowledged(self, link: Link, ticket: int) -> None:
        if link is self.link and link.passes:
            self._hear(Acknowledged(ticket, ok=True, reason=""))

    def _lost(self, link: Link, reason: str) -> None:
        if link is not self.link:
            return
        self.link = None
        if self._clock.now - self._accepted_at > HELD_S:
            self._attempt = 0
        self._hear(Disconnected(reason))
        self._retry()
