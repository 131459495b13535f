"""The simulated broker and the links to it: MQTT 5 as midge uses it, clean start and session expiry 0.

A link keeps the order of what a client sends, as TCP does. To a client, the order is kept within a topic
only, which is all that MQTT promises (MQTT 5.0, 4.6,
https://docs.oasis-open.org/mqtt/mqtt/v5.0/os/mqtt-v5.0-os.html). What QoS 1 delivers may come twice; QoS 0
may get lost; what is on its way on a link that breaks is gone, or arrives all the same.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from broker.messages import Announcement, Assignment, Message
from deploy.simulator.clock import Clock

PACKET_BYTES = 160
"""About what a control message takes, with its topic."""
ASSIGNMENT_BYTES = 1500
NAME_BYTES = 10
CACHED_TOPICS = 20_000

Payload = bytes | Message


@dataclass(frozen=True, slots=True)
class Line:
    """How a client reaches the broker: bytes a second up and down, and the shortest delay in seconds."""

    up: float = 1e6
    down: float = 4e6
    delay_s: float = 0.01


@dataclass
class Weather:
    """What may go wrong on the way; all of it can be changed while it goes on."""

    jitter_s: float = 0.0
    lost: float = 0.0
    """Of messages with QoS 0."""
    duplicated: float = 0.0
    """Of deliveries with QoS 1."""
    ghosts: float = 0.0
    """Of what was sent before a link broke, and arrives at the broker all the same."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A message on its way; `expires_at` on the simulated clock."""

    topic: str
    payload: Payload
    qos: int
    expires_at: float | None = None


@dataclass(slots=True, eq=False)
class Link:
    """One connection: whether packets get through, and whether the broker still holds it.

    `flushed`: the client's process ended, and its system sends what it had been given.
    """

    line: Line
    connection: str
    deliver: Callable[["Link", Packet, bool], None]
    lose: Callable[["Link", str], None]
    will: Packet | None
    passes: bool = True
    flushed: bool = False
    known: bool = True
    filters: dict[str, None] = field(default_factory=dict)
    up_free_at: float = 0.0
    up_last_at: float = 0.0
    down_free_at: float = 0.0
    newest: dict[str, float] = field(default_factory=dict)


class Broker:
    """Retained messages, wills, subscriptions; it may be killed, and comes back with what it had saved."""

    def __init__(self, clock: Clock, weather: Weather) -> None:
        self._clock = clock
        self._weather = weather
        self.running = True
        self.links: dict[Link, None] = {}
        self.retained: dict[str, Packet] = {}
        self.carried: Counter[str] = Counter(up=0, down=0)
        """Bytes taken from clients, and sent to them."""
        self._saved: dict[str, Packet] = {}
        self._exact: dict[str, dict[Link, None]] = {}
        self._wild: dict[str, dict[Link, None]] = {}
        self._matching: dict[str, tuple[str, ...]] = {}

    # -- links -------------------------------------------------------------------------------------

    def accept(self, link: Link) -> None:
        """Take a client in."""
        self.links[link] = None

    def send(self, link: Link, size: int, arrive: Callable[[], None]) -> None:
        """Carry something from a client to the broker, after all that was sent before it."""
        line, now = link.line, self._clock.now
        link.up_free_at = max(now, link.up_free_at) + size / line.up
        arrival = link.up_free_at + line.delay_s + self._jitter()
        link.up_last_at = max(link.up_last_at, arrival)
        self._clock.at(link.up_last_at, partial(self._arrive, link, arrive))

    def break_link(
        self, link: Link, *, client_sees_s: float, broker_sees_s: float, flushed: bool = False
    ) -> None:
        """Let nothing through any more; each end notices after its own time."""
        link.passes, link.flushed = False, flushed
        self._clock.after(client_sees_s, lambda: link.lose(link, "cut"))
        self._clock.after(broker_sees_s, lambda: self.lost(link))

    def lost(self, link: Link) -> None:
        """A client is gone without a word: its will speaks."""
        if self.running and self._forget(link) and link.will is not None:
            self.take(link.will, retain=True)

    def leave(self, link: Link) -> None:
        """A client says goodbye: its will is void."""
        self._forget(link)

    def _forget(self, link: Link) -> bool:
        if not link.known:
            return False
        link.known = link.passes = False
        del self.links[link]
        for name in link.filters:
            self._remove(link, name)
        link.filters.clear()
        return True

    def _arrive(self, link: Link, arrive: Callable[[], None]) -> None:
        passes = link.passes or link.flushed or self._clock.happens(self._weather.ghosts)
        if self.running and link.known and passes:
            arrive()

    # -- topics ------------------------------------------------------------------------------------

    def take(self, packet: Packet, *, retain: bool = False) -> None:
        """Give a message to whoever subscribed, and keep it if it is to be retained."""
        if retain and packet.payload == b"":
            self.retained.pop(packet.topic, None)
        elif retain:
            self.retained[packet.topic] = packet
        for link in [*self._exact.get(packet.topic, ())]:
            self._deliver(link, packet, retained=False)
        for name in self._wild_filters_of(packet.topic):
            for link in [*self._wild[name]]:
                self._deliver(link, packet, retained=False)

    def subscribe(self, link: Link, names: tuple[str, ...]) -> None:
        """Take subscriptions, each of which brings what is retained, also when it stood already."""
        for name in names:
            link.filters[name] = None
            if "+" in name:
                if name not in self._wild:
                    self._matching.clear()
                self._wild.setdefault(name, {})[link] = None
                found = [t for t in self.retained if name in self._wild_filters_of(t)]
            else:
                self._exact.setdefault(name, {})[link] = None
                found = [name] if name in self.retained else []
            for topic in found:
                self._deliver_retained(link, topic)

    def unsubscribe(self, link: Link, names: tuple[str, ...]) -> None:
        """Undo subscriptions."""
        for name in names:
            if name in link.filters:
                del link.filters[name]
                self._remove(link, name)

    def _remove(self, link: Link, name: str) -> None:
        table = self._wild if "+" in name else self._exact
        table[name].pop(link, None)
        if not table[name] and table is self._exact:
            del table[name]

    def _deliver_retained(self, link: Link, topic: str) -> None:
        packet = self.retained[topic]
        if packet.expires_at is not None and self._clock.now >= packet.expires_at:
            del self.retained[topic]
        else:
            self._deliver(link, packet, retained=True)

    def _deliver(self, link: Link, packet: Packet, *, retained: bool) -> None:
        weather, clock = self._weather, self._clock
        if packet.qos == 0 and clock.happens(weather.lost):
            return
        size = size_of(packet.payload)
        self.carried["down"] += size
        link.down_free_at = max(clock.now, link.down_free_at) + size / link.line.down
        arrival = link.down_free_at + link.line.delay_s + self._jitter()
        arrival = link.newest[packet.topic] = max(arrival, link.newest.get(packet.topic, 0.0))
        self._clock.at(arrival, partial(self._hand_over, link, packet, retained))
        if packet.qos == 1 and clock.happens(weather.duplicated):
            again = arrival + clock.chance.uniform(0, 2.0)
            self._clock.at(again, partial(self._hand_over, link, packet, retained))

    @staticmethod
    def _hand_over(link: Link, packet: Packet, retained: bool) -> None:  # noqa: FBT001 - from partial
        if link.passes:
            link.deliver(link, packet, retained)

    def _wild_filters_of(self, topic: str) -> tuple[str, ...]:
        found = self._matching.get(topic)
        if found is None:
            if len(self._matching) > CACHED_TOPICS:
                self._matching.clear()
            found = self._matching[topic] = tuple(name for name in self._wild if _matches(name, topic))
        return found

    def _jitter(self) -> float:
        jitter_s = self._weather.jitter_s
        return self._clock.chance.uniform(0, jitter_s) if jitter_s else 0.0

    # -- life --------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write what is retained to the disk, as Mosquitto does now and then."""
        self._saved = dict(self.retained)

    def stop(self, *, killed: bool) -> None:
        """End, with the chance to save or without; every client soon finds its link broken."""
        if not killed:
            self.save()
        self.running = False
        for link in [*self.links]:
            self._forget(link)
            self._clock.after(self._clock.chance.uniform(0, 1.0), partial(link.lose, link, "broker gone"))
        self.retained = {}

    def start(self) -> None:
        """Come back with what was saved, unless it runs already."""
        if self.running:
            return
        self.running = True
        self.retained = dict(self._saved)


def size_of(payload: Payload) -> int:
    """About how many bytes it takes on the way; an announcement grows with its cohort."""
    if isinstance(payload, bytes):
        return len(payload) + PACKET_BYTES
    asked: Any = payload.assignment if isinstance(payload, Announcement) else None
    if isinstance(asked, Assignment):
        return PACKET_BYTES + ASSIGNMENT_BYTES + NAME_BYTES * len(asked.cohort or ())
    return PACKET_BYTES


def _matches(name: str, topic: str) -> bool:
    wanted, levels = name.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )
