"""What the next process tells of what happened before it, against what was told then."""

from itertools import count

import pytest

from aggregator import records
from aggregator.coordinator.phases import Decision
from aggregator.ledger import Ledger
from aggregator.records import IncidentKind, Record
from aggregator.watch.remembered import remembered
from aggregator.watch.story import happening
from aggregator.watch.watch import Watch
from broker.control import Reply
from broker.happenings import MAX_RECENT, Happening
from broker.messages import DeclineReason, ReceiptOutcome, RejectReason
from broker.wire import encode
from tests.aggregator.coordinator.world import memory_ledger, theta
from tests.aggregator.watch.screen import Screen

REPLY = encode(Reply(id="0" * 16, ok=True, text="run r of task digits starts", run="r"))
METRICS = {"loss": (1.0, 2.0)}
NOTED: tuple[Record, ...] = (
    records.RunStarted("r", "digits", {"rounds": 3}, 0),
    records.RequestAnswered("0" * 16, "ann", "start", {"task": "digits"}, "- idle", "r training", REPLY),
    records.RoundOpened("r", 1, ("a", "b"), 2, 1),
    records.Invited("r", 1, "c"),
    records.Decided("r", 1, "b", Decision.STRAGGLES, "due in 50 s, at most 20 s left"),
    records.Decided("r", 1, "b", Decision.CATCHES_UP, "due in 10 s, 20 s left"),
    records.Declined("r", 1, "b", DeclineReason.DATA, "label 12"),
    records.UpdateRefused("r", 1, "a", ReceiptOutcome.REJECTED, RejectReason.NORM),
    records.Transition("r", 1, "training", "paused", "paused by an operator"),
    records.Transition("r", 1, "paused", "training"),
    records.Incident(IncidentKind.DAMAGED, "r", 1, "spool/x", "wrong digest"),
    records.DeviceExcluded("b", "stolen"),
    records.RoundClosed("r", 1, "completed", "", theta(1), METRICS, METRICS),
    records.RunEnded("r", "finished", "1 round"),
)


@pytest.fixture
def ledger() -> Ledger:
    """Each commit is a second after the one before."""
    found = memory_ledger()
    seconds = count(1000)
    found._clock = lambda: float(next(seconds))
    return found


def unnumbered(events: list[Happening]) -> list[Happening]:
    return [event.model_copy(update={"number": 0}) for event in events]


def test_what_the_ledger_has_is_told_as_it_was_then(ledger: Ledger) -> None:
    told: list[Happening] = []
    for at, record in enumerate(NOTED, start=1000):
        ledger.commit([record], None)
        if (event := happening(record, float(at))) is not None:
            told.append(event)
    found = remembered(ledger)
    assert unnumbered(found) == told
    assert [event.number for event in found] == list(range(1 - len(told), 1))


def test_of_many_events_the_newest_are_told_and_what_is_of_one_moment_in_its_order(ledger: Ledger) -> None:
    ledger.commit([NOTED[0]], None)
    for number in range(1, 100):
        closed = records.RoundClosed("r", number, "completed", "", theta(1))
        last = [records.RunEnded("r", "finished", "99 rounds")] if number == 99 else []
        ledger.commit([records.RoundOpened("r", number, ("a",), 1, 1)], None)
        ledger.commit([closed, *last], None)
    found = remembered(ledger)
    assert len(found) == MAX_RECENT
    assert [(event.kind, event.round) for event in found[-3:]] == [
        ("round-opened", 99),
        ("round-closed", 99),
        ("run-ended", None),
    ]


def test_an_empty_ledger_remembers_nothing(ledger: Ledger) -> None:
    assert remembered(ledger) == []


@pytest.mark.parametrize("discreet", [False, True], ids=["open", "sealed"])
def test_who_comes_after_a_restart_sees_what_happened_before_it(*, discreet: bool) -> None:
    screen = Screen(discreet=discreet)
    screen.world.ledger.commit(NOTED, None)
    screen.begin()
    screen.look()
    recent = screen.shown["recent"]["events"]
    assert [event["kind"] for event in recent].count("run-ended") == 1
    assert ("label 12" in str(recent)) is not discreet
    assert screen.told == [], "that is no news"
    screen.exclude("a")
    screen.look()
    screen.look(10.0)
    newest = screen.shown["recent"]["events"][-2:]
    assert [event["number"] for event in newest] == [0, 1]


def test_a_ledger_that_cannot_be_read_is_no_reason_not_to_begin(caplog: pytest.LogCaptureFixture) -> None:
    screen = Screen()
    screen.world.ledger.commit(NOTED, None)
    screen.world.ledger._connection.execute("UPDATE requests SET arguments = 'torn'")
    screen.begin()
    assert isinstance(screen.watch, Watch)
    assert "remembering events failed" in caplog.text
