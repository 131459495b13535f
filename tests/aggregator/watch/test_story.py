import pytest

from aggregator import records
from aggregator.records import Record
from aggregator.watch.story import MAX_TEXT, happening
from broker.control import Reply
from broker.happenings import EventKind, Severity
from broker.messages import BlobRef, DeclineReason, ReceiptOutcome, RejectReason
from broker.wire import encode

REF = BlobRef(digest="a" * 64, size=2048, chunk_bytes=1024)
INFO, WARNING, ERROR = Severity.INFO, Severity.WARNING, Severity.ERROR


@pytest.mark.parametrize(
    ("record", "kind", "severity", "text", "reason"),
    [
        (
            records.RunStarted("run-a", "mnist", {}, 0),
            "run-started",
            INFO,
            "run run-a of task mnist begins",
            "",
        ),
        (
            records.RunEnded("run-a", "finished", "all rounds done"),
            "run-ended",
            INFO,
            "run run-a finished: all rounds done",
            "all rounds done",
        ),
        (
            records.RunEnded("run-a", "failed", "no such task"),
            "run-ended",
            ERROR,
            "run run-a failed: no such task",
            "no such task",
        ),
        (
            records.Transition("run-a", 2, "training", "paused", "paused by an operator"),
            "run-paused",
            WARNING,
            "run run-a pauses: paused by an operator",
            "paused by an operator",
        ),
        (
            records.Transition("run-a", 2, "paused", "training", "resumed"),
            "run-resumed",
            INFO,
            "run run-a goes on",
            "resumed",
        ),
        (
            records.RoundOpened("run-a", 2, ("a", "b"), 2, 1),
            "round-opened",
            INFO,
            "round 2 invites 2 (a, b), wants 2, needs 1",
            "",
        ),
        (
            records.RoundClosed("run-a", 2, "completed", "target reached", REF, {"loss": (1.0, 2.0)}),
            "round-closed",
            INFO,
            "round 2 completed: target reached; loss 0.5000",
            "target reached",
        ),
        (
            records.RoundClosed("run-a", 2, "abandoned", "deadline with 0 of at least 1 updates", REF),
            "round-closed",
            WARNING,
            "round 2 abandoned: deadline with 0 of at least 1 updates",
            "deadline with 0 of at least 1 updates",
        ),
        (
            records.Decided("run-a", 2, "a", "straggles", "due in 60 s, at most 20 s left"),
            "straggler",
            INFO,
            "round 2: a straggles: due in 60 s, at most 20 s left",
            "due in 60 s, at most 20 s left",
        ),
        (
            records.Decided("run-a", 2, "a", "carries", "its update counts in the next round"),
            "late",
            INFO,
            "round 2: a carries: its update counts in the next round",
            "its update counts in the next round",
        ),
        (
            records.UpdateRefused("run-a", 2, "a", ReceiptOutcome.REJECTED, RejectReason.NORM),
            "rejected",
            WARNING,
            "round 2: update of a rejected: norm-too-large",
            "norm-too-large",
        ),
        (
            records.UpdateRefused("run-a", 2, "a", ReceiptOutcome.LATE),
            "late",
            WARNING,
            "round 2: update of a late",
            "",
        ),
        (
            records.Declined("run-a", 2, "a", DeclineReason.HEAT, "71 degrees"),
            "declined",
            WARNING,
            "round 2: a declined, heat: 71 degrees",
            "heat",
        ),
        (records.Invited("run-a", 2, "a"), "invited", INFO, "round 2: a invited in place of another", ""),
        (records.DeviceExcluded("a", "stolen"), "excluded", INFO, "a is excluded: stolen", "stolen"),
        (records.DeviceAdmitted("a"), "admitted", INFO, "a is admitted again", ""),
        (
            records.Incident(records.IncidentKind.DAMAGED, "run-a", 2, "spool/a", "is gone"),
            "incident",
            ERROR,
            "damaged: spool/a: is gone",
            "is gone",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value.split(":")[0],
)
def test_a_record_is_told_as_an_event(
    record: Record, kind: str, severity: Severity, text: str, reason: str
) -> None:
    told = happening(record, 5.0)
    assert told is not None
    assert (told.kind, told.severity, told.text, told.reason) == (kind, severity, text, reason)
    assert told.at_unix_s == 5.0
    about = {name: getattr(record, name, None) for name in ("run", "round", "device")}
    assert told.model_dump(include=set(about)) == about


@pytest.mark.parametrize(
    "record",
    [
        records.Transition("run-a", 2, "waiting", "training"),
        records.Decided("run-a", 2, "a", "lost", "silent for 15 s"),
        records.Decided("run-a", 2, "a", "excludes", "stolen"),
        records.UpdateRefused("run-a", 2, "a", ReceiptOutcome.DUPLICATE),
        records.Reported("run-a", 2, "a", {"loss": (1.0, 2.0)}),
    ],
    ids=["transition", "lost", "excluded", "duplicate", "report"],
)
def test_what_is_told_elsewhere_or_is_no_news_is_no_event(record: Record) -> None:
    assert happening(record, 5.0) is None


def answered(reply: Reply, **changes: object) -> records.RequestAnswered:
    given = {
        "id": "0" * 16,
        "user": "anna",
        "verb": "pause",
        "arguments": {"task": None, "settings": {}},
        "before": "run-a training round 2",
        "after": "run-a paused round 2",
        "reply": encode(reply),
    }
    return records.RequestAnswered(**given | changes)  # type: ignore[arg-type]


def test_a_command_is_told_with_who_asked_for_what_and_what_it_changed() -> None:
    told = happening(answered(Reply(id="0" * 16, ok=True, text="run run-a paused")), 5.0)
    assert told is not None
    assert (told.kind, told.severity, told.user) == (EventKind.COMMAND, INFO, "anna")
    assert told.text == "anna asked for pause: run run-a paused"
    assert (told.run, told.before, told.after) == ("run-a", "run-a training round 2", "run-a paused round 2")


def test_a_command_that_came_to_nothing_is_told_with_the_reason() -> None:
    reply = Reply(id="0" * 16, ok=False, text="no task 'x' is configured here")
    asked = answered(reply, verb="start", arguments={"task": "x"}, before="- idle", after="- idle")
    told = happening(asked, 5.0)
    assert told is not None
    assert (told.severity, told.run) == (WARNING, None)
    assert told.text == "anna asked for start x: no task 'x' is configured here"
    assert told.reason == "no task 'x' is configured here"


def test_a_command_about_a_device_names_it() -> None:
    reply = Reply(id="0" * 16, ok=True, text="pi-1 is excluded")
    asked = answered(reply, verb="exclude", arguments={"device": "pi-1", "reason": "stolen"})
    told = happening(asked, 5.0)
    assert told is not None
    assert (told.device, told.text) == ("pi-1", "anna asked for exclude pi-1: pi-1 is excluded")


def test_a_long_story_is_cut_short() -> None:
    told = happening(records.RunEnded("run-a", "failed", "x" * 10_000), 5.0)
    assert told is not None
    assert (len(told.text), len(told.reason)) == (MAX_TEXT, MAX_TEXT)
