import pytest

from broker.happenings import EventDocument, EventKind, Happening, RecentDocument
from broker.monitor import AggregatorDocument, DeviceDocument, FederationDocument, RoundDocument, RunDocument
from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_DEVICE,
    MONITOR_EVENTS,
    MONITOR_FEDERATION,
    MONITOR_RECENT,
    MONITOR_ROUND,
    MONITOR_RUN,
    Topics,
)
from deploy.viewing.view import KEPT_EVENTS, View

TOPICS = Topics("garden")


def tell_run(view: View, run: str, started_unix_s: float = 1.0) -> bool:
    document = RunDocument(
        run=run, task="t", state="waiting", round=1, rounds=3, started_unix_s=started_unix_s
    )
    return view.take(TOPICS.topic(MONITOR_RUN, run=run), document.payload(), 0.0)


def tell_round(view: View, run: str, number: int, outcome: str | None = "completed") -> None:
    document = RoundDocument(
        run=run, round=number, phase="closed", target=1, quorum=1, reported=1, outcome=outcome
    )
    view.take(TOPICS.topic(MONITOR_ROUND, run=run, round=number), document.payload(), 0.0)


def device(name: str) -> DeviceDocument:
    return DeviceDocument(device=name, live=True, state="idle")


def event(number: int, session: int = 7, at_unix_s: float | None = None) -> EventDocument:
    at = float(number) if at_unix_s is None else at_unix_s
    return EventDocument(
        number=number, at_unix_s=at, kind=EventKind.JOINED, text="pi joined", session=session
    )


def tell_event(view: View, number: int, session: int = 7, at_unix_s: float | None = None) -> bool:
    payload = event(number, session, at_unix_s).model_dump_json().encode()
    return view.take(TOPICS.topic(MONITOR_EVENTS), payload, 0.0)


def tell_recent(view: View, numbers: range, session: int = 7) -> None:
    events = tuple(Happening.model_validate(event(number).model_dump()) for number in numbers)
    document = RecentDocument(session=session, events=events)
    view.take(TOPICS.topic(MONITOR_RECENT), document.payload(), 0.0)


def test_rounds_of_an_earlier_run_are_not_those_of_the_newest() -> None:
    view = View(TOPICS)
    tell_run(view, "one")
    tell_round(view, "one", 1)
    tell_run(view, "two", started_unix_s=2.0)
    tell_round(view, "two", 2, outcome=None)
    tell_round(view, "two", 1)
    assert view.run is not None
    assert view.run.run == "two"
    assert [document.round for document in view.rounds("two")] == [1, 2]
    assert [document.round for document in view.closed("two")] == [1]


def test_the_active_run_is_shown_though_another_began_later() -> None:
    view = View(TOPICS)
    tell_run(view, "one")
    tell_run(view, "two", started_unix_s=2.0)
    federation = FederationDocument(devices=0, live=0, run="one", phase="training")
    view.take(TOPICS.topic(MONITOR_FEDERATION), federation.payload(), 0.0)
    assert view.run is not None
    assert view.run.run == "one"
    assert [run.run for run in view.runs] == ["two", "one"]


@pytest.mark.parametrize("payload", [b"{}", b"no json", b'{"schema_version": 2}'])
def test_what_is_no_document_changes_nothing_and_is_counted(payload: bytes) -> None:
    view = View(TOPICS)
    tell_run(view, "one")
    assert not view.take(TOPICS.topic(MONITOR_RUN, run="one"), payload, 0.0)
    assert view.unreadable == 1
    assert view.run is not None


def test_a_document_of_another_schema_is_not_read() -> None:
    view = View(TOPICS)
    document = device("pi").model_copy(update={"schema_version": 2})
    assert not view.take(TOPICS.topic(MONITOR_DEVICE, device="pi"), document.payload(), 0.0)
    assert (view.devices, view.unreadable) == ({}, 1)


def test_a_field_of_a_newer_aggregator_is_passed_over() -> None:
    view = View(TOPICS)
    payload = device("pi").payload()[:-1] + b',"mood":"good"}'
    assert view.take(TOPICS.topic(MONITOR_DEVICE, device="pi"), payload, 0.0)


def test_a_device_that_is_taken_off_the_broker_is_gone() -> None:
    view = View(TOPICS)
    for name in ("b", "a"):
        view.take(TOPICS.topic(MONITOR_DEVICE, device=name), device(name).payload(), 0.0)
    assert list(view.devices) == ["a", "b"]
    assert view.take(TOPICS.topic(MONITOR_DEVICE, device="b"), b"", 0.0)
    assert list(view.devices) == ["a"]
    assert not view.take(TOPICS.topic(MONITOR_DEVICE, device="b"), b"", 0.0)


def test_other_topics_are_nothing_to_see() -> None:
    view = View(TOPICS)
    assert not view.take("elsewhere", b"{}", 0.0)
    assert not view.take(f"{TOPICS.root}/round", b"{}", 0.0)
    assert view.unreadable == 0


def test_a_document_is_stale_when_it_was_not_renewed_for_twice_its_interval() -> None:
    view = View(TOPICS)
    topic = TOPICS.topic(MONITOR_AGGREGATOR)
    document = AggregatorDocument(online=True, renewed_every_s=10.0, at_unix_s=1000.0)
    view.take(topic, document.payload(), 50.0)
    assert not view.is_stale(topic, 70.0)
    assert view.is_stale(topic, 70.1)
    assert view.silent_s(MONITOR_AGGREGATOR, 70.0) is None
    assert view.silent_s(MONITOR_AGGREGATOR, 80.0) == 30.0


def test_a_kept_document_is_as_old_as_it_says() -> None:
    view = View(TOPICS)
    topic = TOPICS.topic(MONITOR_AGGREGATOR)
    document = AggregatorDocument(online=True, renewed_every_s=10.0, at_unix_s=1000.0)
    view.take(topic, document.payload(), 50.0, kept_unix_s=1021.0)
    assert view.is_stale(topic, 50.0)
    view.take(topic, document.payload(), 50.0, kept_unix_s=900.0)
    assert not view.is_stale(topic, 50.0)


def test_events_are_told_once_whether_they_come_as_a_stream_or_are_kept() -> None:
    view = View(TOPICS)
    tell_recent(view, range(1, 4))
    assert not tell_event(view, 3)
    assert tell_event(view, 4)
    tell_recent(view, range(2, 6))
    assert [one.number for one in view.events] == [1, 2, 3, 4, 5]


def test_events_of_a_new_session_of_the_aggregator_are_new() -> None:
    view = View(TOPICS)
    tell_event(view, 1)
    assert tell_event(view, 1, session=8, at_unix_s=2.0)
    assert len(view.events) == 2


def test_only_the_newest_events_are_kept() -> None:
    view = View(TOPICS)
    for number in range(1, KEPT_EVENTS + 11):
        tell_event(view, number)
    assert [view.events[0].number, view.events[-1].number] == [11, KEPT_EVENTS + 10]


def test_after_a_new_connect_only_what_the_broker_still_has_is_shown_and_events_stay() -> None:
    view = View(TOPICS)
    tell_run(view, "one")
    tell_event(view, 1)
    view.forget_documents()
    assert view.run is None
    assert len(view.events) == 1


def test_events_since_a_count_are_those_that_came_later() -> None:
    view = View(TOPICS)
    tell_recent(view, range(1, 4))
    heard = view.heard
    assert [one.number for one in view.since(0)] == [1, 2, 3]
    assert view.since(heard) == []
    tell_event(view, 4)
    assert [(one.session, one.number) for one in view.since(heard)] == [(7, 4)]
    for number in range(5, KEPT_EVENTS + 100):
        tell_event(view, number)
    assert len(view.since(0)) == KEPT_EVENTS


def test_a_document_stands_since_it_was_said() -> None:
    view = View(TOPICS)
    view.take(TOPICS.topic(MONITOR_DEVICE, device="pi"), device("pi").payload(), 10.0)
    assert view.age_s(MONITOR_DEVICE, 12.5, device="pi") == 2.5
    assert view.age_s(MONITOR_DEVICE, 12.5, device="other") == 0.0
