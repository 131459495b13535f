import pytest

from broker.happenings import EventKind
from broker.monitor import FederationDocument, RoundDocument, RunDocument
from broker.topics import MONITOR_FEDERATION, MONITOR_ROUND, MONITOR_RUN, Topics
from deploy.viewing import prose
from deploy.viewing.curves import curves, drawn
from deploy.viewing.devices import LossHistory, remark
from deploy.viewing.events import line
from deploy.viewing.summary import summary
from deploy.viewing.view import View
from deploy.viewing.words import (
    bar,
    clock,
    degrees,
    duration,
    metrics,
    moment,
    percent,
    rate,
    size,
    sparkline,
)
from tests.deploy.viewing.scene import RUN, device, event, round_document, scene, written

TOPICS = Topics("lab")


@pytest.fixture
def view() -> View:
    view = View(TOPICS)
    for topic, payload in scene(TOPICS):
        view.take(topic, payload, 100.0)
    return view


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (float("inf"), "-"),
        (-3.0, "0s"),
        (59.4, "59s"),
        (59.6, "1m00s"),
        (187.0, "3m07s"),
        (3600.0, "1h00m"),
        (8130.0, "2h15m"),
        (86_400.0 * 4 + 3 * 3600, "4d03h"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (713_400, "713 kB"),
        (9_950_000, "9.9 MB"),
        (5e15, "5000 TB"),
    ],
)
def test_bytes_have_decimal_units(count: float, said: str) -> None:
    assert size(count) == said


def test_figures_that_are_not_known_are_a_dash() -> None:
    assert (percent(None), rate(None), rate(0.0), degrees(None)) == ("-", "-", "-", "-")
    assert (rate(9_999.0), rate(31_635.0)) == ("9999/s", "32k/s")
    assert (percent(0.874), rate(4.25), rate(42.4), degrees(61.2)) == ("87 %", "4.2/s", "42/s", "61°C")


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [
        (None, prose.NOTHING),
        (float("inf"), prose.NOTHING),
        (-1.0, "0 s"),
        (0.042, "0.042 s"),
        (4.26, "4.3 s"),
        (41.4, "41 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (18_600, "5 h 10 min"),
        (190_000, "2 d 4 h"),
    ],
)
def test_pages_spell_seconds_as_people_say_them(seconds: float | None, spelled: str) -> None:
    assert prose.duration(seconds) == spelled


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (18_410, "18\N{NARROW NO-BREAK SPACE}410"),
        (18_070.3, "18\N{NARROW NO-BREAK SPACE}070"),
        (0.84382, "0.8438"),
        (0, "0"),
    ],
)
def test_pages_spell_numbers_with_the_digits_that_count(value: float, spelled: str) -> None:
    assert prose.number(value) == spelled


def test_a_day_that_no_calendar_has_is_a_dash() -> None:
    assert (clock(1e18), moment(-1e18)) == ("-", "-")
    assert line(event(1, "joined").model_copy(update={"at_unix_s": 1e300})).startswith("-   joined")


def test_metrics_of_a_part_of_the_data_are_left_out() -> None:
    assert metrics({"loss": 0.25, "accuracy": 0.98765, "accuracy on 1": 0.5}) == "accuracy 0.9877  loss 0.25"


@pytest.mark.parametrize(
    ("part", "said"),
    [(0.0, "    "), (0.5, "██  "), (1.0, "████"), (0.53, "██▏ "), (7.0, "████"), (-1.0, "    ")],
)
def test_a_bar_fills_by_eighths_and_keeps_its_width(part: float, said: str) -> None:
    assert bar(part, 4) == said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], ""),
        ([float("nan")], ""),
        ([1.0, 1.0], "▁▁"),
        ([9.0, 1.0, 0.5, 0.0], "█▅▁"),
        ([1.7e308, -1.7e308], "█▁"),
    ],
    ids=["none", "not finite", "flat", "only the newest", "huge"],
)
def test_a_sparkline_lies_between_least_and_largest(values: list[float], said: str) -> None:
    assert sparkline(values, 3) == said


def test_a_curve_joins_its_points_from_corner_to_corner() -> None:
    assert drawn([(1.0, 0.0), (2.0, 1.0)], 2, 1) == ["⡠⠊"]
    assert drawn([(1.0, 1.0), (2.0, 1.0)], 2, 1) == ["⠤⠤"]
    assert drawn([(1.0, 1.0)], 1, 1) == ["⠄"]
    assert drawn([(1.0, float("nan"))], 2, 2) == ["⠀⠀", "⠀⠀"]
    assert drawn([(1.0, 1.7e308), (2.0, -1.7e308)], 2, 1) == ["⠑⢄"]
    assert drawn([], 0, 0) == []


def test_what_is_left_goes_down_between_two_documents_and_stands_while_paused(view: View) -> None:
    assert "enough in 2h00m  3h00m left at most" in summary(view, "lab", 100.0).round.text
    assert "enough in 1h58m  2h58m left at most" in summary(view, "lab", 240.0).round.text
    paused = RunDocument(
        run=RUN, task="digits", state="paused", round=3, rounds=10, started_unix_s=1000.0, seconds_left=60.0
    )
    view.take(TOPICS.topic(MONITOR_RUN, run=RUN), written(paused), 100.0)
    told = summary(view, "lab", 10_000.0)
    assert "about 1m00s left" in told.run.text
    assert "enough in 2h00m  3h00m left at most" in told.round.text


def test_a_run_is_as_far_as_its_closed_rounds(view: View) -> None:
    assert summary(view, "lab", 100.0).run.done == 0.2
    closed = round_document(3, "completed").model_copy(update={"seconds": 65.0, "reason": "late"})
    view.take(TOPICS.topic(MONITOR_ROUND, run=RUN, round=3), written(closed), 100.0)
    told = summary(view, "lab", 100.0)
    assert told.run.done == 0.3
    assert told.round.text == "round 3  completed  2 of 3 updates (quorum 2)  1m05s  late"
    finished = RunDocument(run=RUN, task="t", state="finished", round=10, rounds=10, started_unix_s=1000.0)
    view.take(TOPICS.topic(MONITOR_RUN, run=RUN), finished.payload(), 100.0)
    assert summary(view, "lab", 100.0).run.done == 1.0


def test_without_a_run_it_says_how_to_start_one() -> None:
    view = View(TOPICS)
    federation = FederationDocument(devices=2, live=0, phase="idle", messages_dropped=4)
    view.take(TOPICS.topic(MONITOR_FEDERATION), federation.payload(), 0.0)
    told = summary(view, "lab", 0.0)
    assert told.fleet.text == "federation lab  0 of 2 devices live  4 messages dropped"
    assert told.run.text == "no run yet: midge start TASK"
    assert told.round.text == ""


def test_curves_come_from_the_history_or_else_from_the_rounds_that_are_there(view: View) -> None:
    assert curves(view)["accuracy"] == [(1.0, 0.6), (2.0, 0.7)]
    view = View(TOPICS)
    run = RunDocument(run=RUN, task="t", state="training", round=2, rounds=3, started_unix_s=1.0)
    view.take(TOPICS.topic(MONITOR_RUN, run=RUN), run.payload(), 0.0)
    for number in (1, 2):
        closed = round_document(number, "completed").model_copy(update={"federated": {"mae": number / 4}})
        view.take(TOPICS.topic(MONITOR_ROUND, run=RUN, round=number), closed.payload(), 0.0)
    assert curves(view) == {"mae": [(1.0, 0.25), (2.0, 0.5)]}


def test_losses_are_those_of_training_by_round_and_only_new_documents_are_read() -> None:
    history = LossHistory()
    first, second = round_document(1, "completed"), round_document(2)
    assert history.of([first]) == {"pi-1": [1.0], "pi-2": [1.0]}
    known = history.of([first, second])
    assert known["pi-1"] == [1.0, 0.5]
    assert history.of([first, second]) is known
    parts = {
        "pi-1": first.participants["pi-1"].model_copy(update={"training": {}, "validation": {"loss": 7.0}})
    }
    changed: RoundDocument = second.model_copy(update={"participants": parts})
    assert history.of([first, changed]) == {"pi-1": [1.0, 7.0], "pi-2": [1.0]}


def test_an_event_says_who_did_it_and_what_it_changed() -> None:
    assert line(event(1, "joined")).endswith("  joined       joined")
    changed = event(2, "rounds is set", kind=EventKind.COMMAND, user="ann", before="10", after="20")
    assert line(changed).endswith("command      rounds is set by ann (10 -> 20)")
    assert line(event(3, "ann paused", kind=EventKind.COMMAND, user="ann")).endswith(
        "command      ann paused"
    )


def test_what_is_the_matter_with_a_device_is_one_remark() -> None:
    assert remark(device("a")) == ""
    assert remark(device("a", conflict=True, not_selected="too hot")) == "two machines use this id; too hot"
