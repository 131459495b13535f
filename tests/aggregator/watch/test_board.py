"""What is said a second, whatever there is to say."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator.watch.board import (
    BYTES_AT_ONCE,
    BYTES_PER_S,
    LARGE_BYTES,
    MESSAGES_AT_ONCE,
    MESSAGES_PER_S,
    SWEPT_AT_ONCE,
    Board,
)
from aggregator.watch.bucket import Bucket
from aggregator.watch.pages import DEVICES_PER_S
from aggregator.watch.turns import Turns
from broker.happenings import EventDocument, EventKind
from broker.monitor import DeviceDocument, Document, FederationDocument

RATE_S = 0.5


class Broker:
    """Takes what is published, and the time of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sent: list[tuple[float, str, int]] = []
        self.accepts = True

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        assert retain == (topic != "events")
        if self.accepts:
            self.sent.append((self.now, topic, len(topic) + len(payload)))
        return self.accepts

    def most_within(self, seconds: float) -> tuple[int, int]:
        """Most messages, and most bytes, in any window of this length."""
        most, most_bytes, first, size = 0, 0, 0, 0
        for place, (at, _, bytes_) in enumerate(self.sent):
            size += bytes_
            while self.sent[first][0] <= at - seconds:
                size -= self.sent[first][2]
                first += 1
            most, most_bytes = max(most, place - first + 1), max(most_bytes, size)
        return most, most_bytes

    def topics(self) -> list[str]:
        return [topic for _, topic, _ in self.sent]


def of_size(size: int, version: int = 0) -> Document:
    return FederationDocument(devices=version, live=0, phase="x" * size)


def event(number: int) -> EventDocument:
    return EventDocument(session=1, number=number, at_unix_s=0.0, kind=EventKind.LOST, text="is lost")


def test_a_bucket_holds_so_much_and_fills_with_time() -> None:
    bucket = Bucket(2.0, 4.0)
    bucket.refill(100.0)
    for _ in range(4):
        assert bucket.holds(1)
        bucket.take(1)
    assert not bucket.holds(1)
    bucket.refill(100.5)
    assert bucket.holds(1)
    bucket.refill(1000.0)
    bucket.take(4)
    assert not bucket.holds(1), "time alone does not make it larger"


def test_a_bucket_gives_more_than_it_can_hold_once_it_is_half_full_and_is_then_in_debt() -> None:
    bucket = Bucket(2.0, 4.0)
    bucket.refill(0.0)
    bucket.take(3)
    assert not bucket.holds(100)
    bucket.refill(0.5)
    assert bucket.holds(100)
    bucket.take(100)
    bucket.refill(48.0)
    assert not bucket.holds(1)
    bucket.refill(50.0)
    assert bucket.holds(1)


def test_a_document_that_stands_there_is_not_said_again_before_it_is_due() -> None:
    broker = Broker()
    board = Board(broker.publish, RATE_S)
    board.refill(0.0)
    for _ in range(3):
        assert board.show("a", of_size(10), 0.0)
    assert broker.topics() == ["a"]
    assert not board.show("b", of_size(10), 0.0, seconds_left=1.0) or broker.topics() == ["a", "b"]
    assert board.show("b", of_size(10), 5.0, seconds_left=0.0), "time alone is no reason"
    assert broker.topics() == ["a", "b"]


def test_a_large_document_is_said_rarely_and_its_newest_version_then() -> None:
    broker = Broker()
    board = Board(broker.publish, RATE_S)
    size = 50_000
    for step in range(40):
        broker.now = step * RATE_S
        board.refill(broker.now)
        assert board.show("large", of_size(size, step), broker.now)
    assert [at for at, _, _ in broker.sent] == [0.0, 6.5, 13.0, 19.5]


def test_large_documents_wait_for_each_other_and_no_other_for_them() -> None:
    broker = Broker()
    board = Board(broker.publish, RATE_S)
    board.refill(0.0)
    assert board.show("large", of_size(100_000), 0.0)
    assert not board.show("another", of_size(LARGE_BYTES), 0.0)
    assert board.show("small", of_size(10), 0.0)
    assert board.tell("events", event(1))
    board.refill(2.0)
    assert not board.show("another", of_size(LARGE_BYTES), 2.0)
    board.refill(3.0)
    assert board.show("another", of_size(LARGE_BYTES), 3.0)


def test_what_the_broker_does_not_take_is_offered_again() -> None:
    broker = Broker()
    board = Board(broker.publish, RATE_S)
    board.refill(0.0)
    broker.accepts = False
    assert not board.show("a", of_size(10), 0.0)
    assert not board.tell("events", event(1))
    board.clear("b")
    board.sweep()
    broker.accepts = True
    assert board.show("a", of_size(10), 0.0)
    assert board.tell("events", event(1))
    board.sweep()
    assert broker.topics() == ["a", "events", "b"]


def test_a_document_that_is_back_is_not_taken_off_any_more() -> None:
    broker = Broker()
    board = Board(broker.publish, RATE_S)
    board.refill(0.0)
    board.clear("a")
    board.show("a", of_size(10), 0.0)
    board.sweep()
    assert broker.topics() == ["a"]


@pytest.mark.parametrize("renewed_s", [0.0, 30.0], ids=["for good", "until it is renewed"])
@pytest.mark.parametrize("again", [False, True], ids=["once", "forgotten"])
def test_what_is_not_said_again_stays_only_if_it_was_said_for_good(renewed_s: float, *, again: bool) -> None:
    broker = Broker()
    board = Board(broker.publish, RATE_S)
    board.refill(0.0)
    board.show("a", of_size(10).model_copy(update={"renewed_every_s": renewed_s}), 0.0)
    if again:
        board.forget()
    board.release("a")
    board.release("never said")
    board.sweep()
    gone = renewed_s > 0 or again
    assert broker.topics() == (["a", "a"] if gone else ["a"]), "nobody would see that it is out of date"


def test_much_that_is_to_go_leaves_room_for_what_is_said() -> None:
    broker = Broker()
    board = Board(broker.publish, RATE_S)
    board.refill(0.0)
    for number in range(100):
        board.clear(f"old/{number}")
    board.sweep()
    assert board.show("a", of_size(10), 0.0)
    assert len(broker.topics()) == SWEPT_AT_ONCE + 1


def test_everything_said_at_once_is_renewed_bit_by_bit() -> None:
    broker = Broker()
    board = Board(broker.publish, RATE_S)
    names = [f"devices/pi-{number}" for number in range(16)]
    document = of_size(10).model_copy(update={"renewed_every_s": 30.0})
    for step in range(121):
        broker.now = step * RATE_S
        board.refill(broker.now)
        assert all(board.show(name, document, broker.now) for name in names)
    times = Counter(at for at, _, _ in broker.sent)
    assert times.pop(0.0) == 16
    assert max(times.values()) <= 5
    for name in names:
        said = [at for at, topic, _ in broker.sent if topic == name]
        assert len(said) >= 3
        assert all(22.0 <= after - before <= 30.5 for before, after in pairwise(said))


class Storm:
    """A fleet of which everything changes at every look, with all else there may be to say."""

    def __init__(self, fleet: int, seed: int, *, events: bool, sizes: list[int]) -> None:
        self.broker = Broker()
        self.board = Board(self.broker.publish, RATE_S)
        self.turns = Turns()
        self.names = [f"pi-{number}" for number in range(fleet)]
        self.chance = random.Random(seed)  # noqa: S311 - no secret
        self.events = events
        self.sizes = sizes
        self.number = 0

    def look(self, after_s: float = RATE_S) -> None:
        """What `Watch` does at a look."""
        self.broker.now += after_s
        now = self.broker.now
        self.number += 1
        self.board.refill(now)
        if self.events:
            for number in range(5):
                self.board.tell("events", event(number))
        for place, size in enumerate(self.sizes):
            self.board.show(f"runs/{place}", of_size(size, self.number), now)
        self.turns.take(dict.fromkeys(self.names), self._device, 500)

    def _device(self, name: str) -> bool:
        tags = ("x" * self.chance.randrange(1, 200),)
        document = DeviceDocument(device=name, live=True, state="training", round=self.number, tags=tags)
        return self.board.show(f"devices/{name}", document, self.broker.now)


@settings(max_examples=30, deadline=None)
@given(
    fleet=st.integers(1, 2000),
    seed=st.integers(0, 1 << 30),
    events=st.booleans(),
    sizes=st.lists(st.integers(10, 260_000), max_size=4),
    reconnects=st.booleans(),
)
@example(fleet=2000, seed=1, events=True, sizes=[260_000, 260_000, 260_000, 260_000], reconnects=True)
@example(fleet=500, seed=2, events=True, sizes=[60_000, 240_000, 60_000, 40_000], reconnects=False)
def test_no_fleet_makes_it_say_more_than_the_bound_nor_leaves_a_device_waiting_for_ever(
    fleet: int, seed: int, *, events: bool, sizes: list[int], reconnects: bool
) -> None:
    storm = Storm(fleet, seed, events=events, sizes=[400, 600, *sizes])
    patience_s = 2 * max(30.0, fleet / DEVICES_PER_S)
    for step in range(int(patience_s / RATE_S)):
        storm.look()
        if reconnects and step == 4:
            storm.board.forget()
    broker = storm.broker
    for window_s in (1.0, 10.0):
        messages, size = broker.most_within(window_s)
        assert messages <= MESSAGES_AT_ONCE + MESSAGES_PER_S * window_s
        largest = max((size for size in sizes if size > BYTES_AT_ONCE / 2), default=0) + 1000
        assert size <= 2 * (BYTES_AT_ONCE + BYTES_PER_S * window_s) + largest
    said = Counter(topic for topic in broker.topics() if topic.startswith("devices/"))
    assert len(said) == fleet, "each had its turn"
    assert max(said.values()) - min(said.values()) <= 1 + (2 if reconnects else 1), "and none more often"


@pytest.mark.parametrize("fleet", [1, 3])
def test_a_change_in_a_small_fleet_is_said_at_the_next_look(fleet: int) -> None:
    storm = Storm(fleet, 1, events=False, sizes=[400, 600, 2000])
    for _ in range(100):
        storm.look()
        latest = [at for at, topic, _ in storm.broker.sent if topic.startswith("devices/")][-fleet:]
        assert latest == [storm.broker.now] * fleet
