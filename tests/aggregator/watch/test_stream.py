from aggregator.watch.stream import EVENTS_AT_ONCE, EVENTS_PER_S, MAX_WAITING, Stream
from broker.happenings import MAX_RECENT, EventDocument, EventKind, Happening


def lost(device: str = "pi-1") -> Happening:
    return Happening(number=0, at_unix_s=5.0, kind=EventKind.LOST, text=f"{device} is lost", device=device)


class Listener:
    """A stream, and what was told of it."""

    def __init__(self) -> None:
        self.stream = Stream(7)
        self.told: list[EventDocument] = []
        self.accepts = True
        self.stream.refill(0.0, 0.0)

    def tell(self, event: EventDocument) -> bool:
        if self.accepts:
            self.told.append(event)
        return self.accepts

    def pour(self, now: float, at_most: int = 100) -> None:
        self.stream.refill(now, 1000.0 + now)
        self.stream.pour(self.tell, at_most)


def test_events_are_numbered_within_the_session() -> None:
    listener = Listener()
    for device in ("pi-1", "pi-2"):
        listener.stream.add(lost(device))
    listener.pour(0.0)
    assert [(event.session, event.number, event.device) for event in listener.told] == [
        (7, 1, "pi-1"),
        (7, 2, "pi-2"),
    ]


def test_what_comes_too_fast_is_counted_in_one_event() -> None:
    listener = Listener()
    for _ in range(int(EVENTS_AT_ONCE) + 400):
        listener.stream.add(lost())
    listener.pour(0.0)
    assert len(listener.told) == EVENTS_AT_ONCE
    listener.pour(1.0)
    (skipped,) = listener.told[int(EVENTS_AT_ONCE) :]
    assert (skipped.kind, skipped.number) == ("skipped", 51)
    assert skipped.text == "400 events came too fast to be told one by one"
    assert skipped.at_unix_s == 1001.0


def test_a_storm_that_lasts_is_told_at_the_rate_and_none_of_it_is_forgotten() -> None:
    listener, seconds = Listener(), 60
    for step in range(2 * seconds):
        listener.pour(step / 2)
        for _ in range(100):
            listener.stream.add(lost())
    listener.pour(seconds)
    assert len(listener.told) <= EVENTS_AT_ONCE + EVENTS_PER_S * seconds
    skipped = [event for event in listener.told if event.kind is EventKind.SKIPPED]
    counted = sum(int(event.text.split()[0]) for event in skipped)
    assert len(listener.told) - len(skipped) + counted == 200 * seconds
    assert [event.number for event in listener.told] == list(range(1, len(listener.told) + 1))


def test_events_wait_in_order_while_the_broker_is_away_but_not_without_end() -> None:
    listener = Listener()
    listener.accepts = False
    for step in range(100):
        listener.stream.add(lost(f"pi-{step}"))
        listener.pour(float(step))
    assert listener.told == []
    listener.accepts = True
    listener.pour(100.0)
    listener.pour(101.0)
    assert [event.device for event in listener.told[:MAX_WAITING]] == [f"pi-{n}" for n in range(MAX_WAITING)]
    (skipped,) = listener.told[MAX_WAITING:]
    assert skipped.text.startswith("50 events")


def test_at_most_so_many_are_told_at_once() -> None:
    listener = Listener()
    for _ in range(15):
        listener.stream.add(lost())
    listener.pour(0.0, at_most=10)
    assert len(listener.told) == 10
    listener.pour(0.0, at_most=10)
    assert len(listener.told) == 15


def test_the_newest_events_are_kept_for_whoever_comes_late() -> None:
    listener = Listener()
    assert not listener.stream.begun
    for step in range(80):
        listener.pour(float(step))
        listener.stream.add(lost(f"pi-{step}"))
    recent = listener.stream.recent
    assert recent.session == 7
    assert [event.number for event in recent.events] == list(range(81 - MAX_RECENT, 81))
    assert recent.events[-1].device == "pi-79"
