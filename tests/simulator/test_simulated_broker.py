"""The simulated broker does what MQTT 5 promises, and no more."""

import pytest

from broker.events import Connected, Disconnected
from broker.messages import Presence
from deploy.simulator.clock import Clock
from deploy.simulator.network import Broker, Line, Weather
from deploy.simulator.session import Delivered, Happening, SimulatedSession

BIRTH = b"birth"


class Client:
    """A client that hears everything below its names."""

    def __init__(self, clock: Clock, broker: Broker, *names: str, name: str = "one") -> None:
        self.heard: list[Happening] = []
        self.presence = f"devices/{name}/presence"
        self.session = SimulatedSession(
            clock,
            broker,
            Line(),
            self.heard.append,
            last_words=lambda connection: Presence(online=False, connection=connection),
            presence=self.presence,
            subscriptions=names,
            reachable=lambda: True,
        )
        self.session.start()

    def messages(self) -> list[tuple[str, object, bool]]:
        return [(m.topic, m.payload, m.retained) for m in self.heard if isinstance(m, Delivered)]

    def times(self, kind: type[Happening]) -> int:
        return sum(isinstance(happening, kind) for happening in self.heard)


class Net:
    """A broker in a weather, and time that passes."""

    def __init__(self) -> None:
        self.clock, self.weather = Clock(5), Weather()
        self.broker = Broker(self.clock, self.weather)

    def client(self, *names: str, name: str = "one") -> Client:
        client = Client(self.clock, self.broker, *names, name=name)
        self.wait(1)
        return client

    def wait(self, seconds: float) -> None:
        until = self.clock.now + seconds
        self.clock.at(until, lambda: None)
        while self.clock.now < until:
            self.clock.step()


@pytest.fixture
def net() -> Net:
    return Net()


def test_a_message_reaches_who_subscribed_by_name_and_by_wildcard(net: Net) -> None:
    exact, wild, other = net.client("a/x"), net.client("a/+"), net.client("b/+")
    exact.session.publish("a/x", b"1")
    net.wait(1)
    assert exact.messages() == wild.messages() == [("a/x", b"1", False)]
    assert other.messages() == []


def test_what_is_retained_is_said_to_who_comes_later_until_it_is_cleared_or_expires(net: Net) -> None:
    writer = net.client()
    writer.session.publish("a/x", b"1", retain=True)
    writer.session.publish("a/y", b"2", retain=True, expiry_s=10)
    assert sorted(net.client("a/+").messages()) == [("a/x", b"1", True), ("a/y", b"2", True)]
    net.wait(10)
    assert net.client("a/+").messages() == [("a/x", b"1", True)]
    writer.session.publish("a/x", b"", retain=True)
    assert net.client("a/+").messages() == []


def test_a_will_speaks_when_a_connection_breaks_and_not_after_a_goodbye(net: Net) -> None:
    one, two = net.client(name="one"), net.client(name="two")
    watcher = net.client("devices/+/presence")
    one.session.stop()
    net.wait(60)
    assert watcher.messages() == []
    two.session.die(power=True)
    net.wait(60)
    ((topic, payload, _),) = watcher.messages()
    assert topic == two.presence
    assert isinstance(payload, Presence)
    assert not payload.online


def test_a_will_may_come_after_the_next_connection_of_its_client(net: Net) -> None:
    one, watcher = net.client(), net.client("devices/+/presence")
    former = one.session.link
    one.session.cut(client_sees_s=0.0, broker_sees_s=20.0)
    net.wait(10)
    assert one.times(Connected) == 2
    assert watcher.messages() == []
    net.wait(20)
    ((_, payload, _),) = watcher.messages()
    assert former is not None
    assert isinstance(payload, Presence)
    assert payload.connection == former.connection


def test_what_is_sent_on_a_broken_link_is_lost_and_never_acknowledged(net: Net) -> None:
    one, watcher = net.client(), net.client("a/x")
    one.session.cut(client_sees_s=5.0, broker_sees_s=5.0)
    assert one.session.publish("a/x", b"1") is not None
    net.wait(30)
    assert watcher.messages() == []
    assert len(one.heard) == one.times(Connected) + one.times(Disconnected)


def test_a_broker_that_is_killed_comes_back_with_what_it_had_saved(net: Net) -> None:
    one = net.client()
    one.session.publish("a/x", b"saved", retain=True)
    net.wait(1)
    net.broker.save()
    one.session.publish("a/x", b"lost", retain=True)
    net.wait(1)
    net.broker.stop(killed=True)
    net.wait(2)
    assert one.session.publish("a/x", b"nobody") is None
    net.broker.start()
    net.wait(30)
    assert one.times(Connected) == 2
    assert net.client("a/x").messages() == [("a/x", b"saved", True)]


def test_a_topic_keeps_its_order_and_topics_do_not_keep_it_among_each_other(net: Net) -> None:
    one, watcher = net.client(), net.client("+")
    net.weather.jitter_s = 2.0
    for number in range(20):
        one.session.publish("a", b"%d" % number)
        one.session.publish("b", b"%d" % number)
    net.wait(30)
    heard = watcher.messages()
    for name in "ab":
        assert [payload for topic, payload, _ in heard if topic == name] == [b"%d" % n for n in range(20)]
    assert [topic for topic, _, _ in heard] != ["a", "b"] * 20


def test_only_qos_1_comes_twice_and_only_qos_0_gets_lost(net: Net) -> None:
    one, watcher = net.client(), net.client("+")
    net.weather.duplicated = net.weather.lost = 0.5
    for number in range(50):
        one.session.publish("sure", b"%d" % number, qos=1)
        one.session.publish("unsure", b"%d" % number, qos=0)
    net.wait(30)
    sure = [payload for topic, payload, _ in watcher.messages() if topic == "sure"]
    unsure = [payload for topic, payload, _ in watcher.messages() if topic == "unsure"]
    assert len({*sure}) == 50 < len(sure)
    assert len({*unsure}) == len(unsure) < 50
