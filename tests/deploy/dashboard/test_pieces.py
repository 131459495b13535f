"""What the pages say of documents, before any browser sees it."""

from broker.happenings import EventKind, Happening
from broker.monitor import (
    AggregatorDocument,
    ConfusionDocument,
    DeviceDocument,
    HistoryDocument,
    ParticipantDocument,
    RoundDocument,
    RoundSummary,
    StepDocument,
)
from broker.topics import MONITOR_AGGREGATOR, Topics
from deploy.dashboard.curves import device_figures, options, run_figures
from deploy.dashboard.fleet import PER_PAGE, Choice, choose, counted, needs_care, spark
from deploy.dashboard.lanes import MAX_LANES, device_chart, round_chart
from deploy.dashboard.markup import render
from deploy.dashboard.mistakes import mistakes
from deploy.dashboard.notices import notices
from deploy.viewing.curves import summaries
from deploy.viewing.standing import Believed, Standing
from deploy.viewing.view import View

TOPICS = Topics("garden")


def device(name: str, state: str = "idle", **given: object) -> DeviceDocument:
    return DeviceDocument.model_validate({"device": name, "live": state != "lost", "state": state, **given})


def part(*steps: tuple[str, float], status: str = "accepted", **given: object) -> ParticipantDocument:
    spent = tuple(StepDocument(state=state, at_s=at_s) for state, at_s in steps)
    return ParticipantDocument.model_validate({"status": status, "steps": spent, **given})


def closed(number: int, participants: dict[str, ParticipantDocument], **given: object) -> RoundDocument:
    shared = {"run": "r", "phase": "closed", "target": 2, "quorum": 1, "reported": 2, "outcome": "completed"}
    return RoundDocument.model_validate({**shared, "round": number, "participants": participants, **given})


# -- devices ------------------------------------------------------------------------------------------


def test_devices_are_found_by_every_word_and_by_what_they_do() -> None:
    fleet = [
        device("pi-1", tags=("camera",)),
        device("pi-2", "training", tags=("camera",)),
        device("pi-3", "lost"),
    ]

    def found(**choice: object) -> list[str]:
        return [one.device for one in choose(fleet, Choice(**choice)).devices]  # type: ignore[arg-type]

    assert found(words="CAMERA pi-2") == ["pi-2"]
    assert found(shown="training") == ["pi-2"]
    assert found(shown="live") == ["pi-1", "pi-2"]
    assert found(shown="needs a look") == ["pi-3"]
    assert found(words="nothing of it") == []


def test_devices_are_sorted_with_those_that_say_nothing_last() -> None:
    fleet = [device("a"), device("b", loss=0.5, progress=0.1), device("c", loss=0.9, progress=0.7)]
    for order, names in {
        "loss, highest first": "cba",
        "progress": "cba",
        "name": "abc",
        "temperature, hottest first": "abc",
    }.items():
        assert "".join(one.device for one in choose(fleet, Choice(order=order)).devices) == names


def test_pages_are_cut_and_a_page_that_is_no_more_is_the_last() -> None:
    fleet = [device(f"pi-{number:03d}") for number in range(PER_PAGE * 2 + 1)]
    page = choose(fleet, Choice(page=99))
    assert (page.number, page.pages, page.found, len(page.devices)) == (3, 3, PER_PAGE * 2 + 1, 1)
    assert choose([], Choice()).pages == 1


def test_a_device_needs_a_look_when_it_is_lost_doubled_or_never_selected() -> None:
    assert needs_care(device("a")) == ""
    assert needs_care(device("a", "lost")) == "lost"
    assert "two machines" in needs_care(device("a", conflict=True))
    assert needs_care(device("a", not_selected="too little memory")) == "too little memory"
    assert counted([device("a", "lost"), device("b"), device("c", "training")]) == {
        "idle": 1,
        "training": 1,
        "lost": 1,
    }


def test_a_spark_stays_in_its_box_whatever_the_values() -> None:
    assert spark([1.0]) == ""
    assert spark([3.0, 3.0]) == "0.0,20.0 100.0,20.0"
    assert spark([2.0, 1.0, 0.0]) == "0.0,0.0 50.0,10.0 100.0,20.0"


# -- lanes --------------------------------------------------------------------------------------------


def test_a_lane_says_who_fetched_trained_uploaded_and_waited_for_how_long() -> None:
    document = closed(
        1,
        {"pi-1": part(("idle", 0), ("fetching", 1), ("training", 2), ("uploading", 7), ("reported", 8))},
        seconds=10.0,
        durations_s={"training": 8.0, "evaluating": 2.0},
    )
    chart = round_chart(document)
    phases, lane = chart.lanes
    assert lane.facts == "waited 1.0 s, fetched 1.0 s, trained 5.0 s, uploaded 1.0 s, done 2.0 s"
    assert [(span.start, span.width) for span in lane.spans][2] == (20.0, 50.0)
    assert [(span.doing, span.start, span.width) for span in phases.spans] == [
        ("training", 0.0, 80.0),
        ("evaluating", 80.0, 20.0),
    ]
    assert chart.ticks[:2] == ((0.0, "0 s"), (20.0, "2 s"))


def test_the_lanes_of_an_open_round_grow_with_time() -> None:
    document = closed(
        1, {"pi-1": part(("training", 0), status="invited")}, seconds=4.0, outcome=None, phase="training"
    )
    assert round_chart(document).seconds == 4.0
    grown = round_chart(document, elapsed_s=6.0)
    assert grown.lanes[1].facts == "trained 10 s"
    assert grown.lanes[1].spans[0].width == 100.0


def test_of_many_participants_those_that_are_awaited_are_shown() -> None:
    done = {f"pi-{number:03d}": part(("reported", 1.0 + number / 100)) for number in range(60)}
    chart = round_chart(closed(1, {**done, "slow": part(("training", 0.1), status="invited")}, seconds=3.0))
    assert chart.lanes[0].name == "slow"
    assert chart.lanes[1].name == "pi-059"
    assert (len(chart.lanes), chart.more) == (MAX_LANES, 21)


def test_steps_that_cannot_be_do_not_leave_the_picture() -> None:
    document = closed(
        1, {"pi-1": part(("training", 5.0), ("fetching", 1.0), ("reported", 99.0))}, seconds=10.0
    )
    for lane in round_chart(document).lanes:
        assert all(span.start >= 0 and span.start + span.width <= 100.01 for span in lane.spans)
    assert round_chart(closed(1, {})).lanes == ()
    assert round_chart(closed(1, {"pi-1": part()})).lanes[0].facts == "nothing known"
    assert device_chart([], "pi-1").lanes == ()


def test_the_rounds_of_a_device_share_one_axis_newest_first() -> None:
    rounds = [closed(number, {"pi-1": part(("training", 0.0))}, seconds=5.0 * number) for number in (1, 2)]
    chart = device_chart(rounds, "pi-1")
    assert [(lane.name, lane.spans[0].width) for lane in chart.lanes] == [
        ("round 2", 100.0),
        ("round 1", 50.0),
    ]


# -- figures ------------------------------------------------------------------------------------------


def line(number: int, **given: object) -> RoundSummary:
    shared = {"round": number, "outcome": "completed", "reported": 2, "participants": 2, "seconds": 4.0}
    return RoundSummary.model_validate({**shared, **given})


def test_figures_have_the_loss_apart_and_compare_held_out_data_with_the_devices_own() -> None:
    metrics = {"loss": 1.0, "accuracy": 0.5, "accuracy on night": 0.1}
    others, loss, traffic = run_figures(
        [line(1, metrics=metrics, federated={"loss": 2.0}, bytes_up=10), line(2)]
    )
    assert [curve.name for curve in others.curves] == ["accuracy, held-out data"]
    assert [(curve.name, curve.dashed) for curve in loss.curves] == [
        ("held-out data", False),
        ("devices' own data", True),
    ]
    assert traffic.facts == "Bytes by round, 1 to 2; newest: up 0 B, down 0 B"
    drawn = options(loss)
    assert [one["data"] for one in drawn["series"]] == [[1.0], [2.0]]
    assert run_figures([])[0].facts == "Metrics: no round is over yet"


def test_what_the_history_does_not_have_yet_comes_from_the_rounds() -> None:
    history = HistoryDocument(run="r", rounds=(line(1),))
    found = summaries(history, [closed(1, {}), closed(2, {}, metrics={"loss": 0.5})])
    assert [(one.round, one.metrics) for one in found] == [(1, {}), (2, {"loss": 0.5})]
    assert [one.round for one in summaries(None, [closed(7, {})])] == [7]


def test_the_figures_of_a_device_are_of_its_own_rounds() -> None:
    mine = part(validation={"loss": 1.0}, evaluation={"loss": 0.8}, bytes_up=5)
    _, loss, traffic = device_figures([closed(1, {"a": mine}), closed(2, {"b": mine})], "a")
    assert [curve.points for curve in loss.curves] == [{1: 1.0}, {1: 0.8}]
    assert traffic.table == [(1, ["5 B", "0 B"])]


# -- the confusion matrix -----------------------------------------------------------------------------


def test_mistakes_are_counted_shaded_and_named_worst_first() -> None:
    found = mistakes(ConfusionDocument(run="r", round=1, classes=("cat", "dog"), counts=((8, 2), (5, 5))))
    assert found.right == 0.65
    assert found.worst == ("dog taken for cat: 5", "cat taken for dog: 2")
    assert [cell.share for cell in found.rows[0]] == [0.8, 0.2]


def test_a_large_matrix_is_a_picture_of_what_is_in_it() -> None:
    classes = tuple(f"c{number}" for number in range(100))
    counts = tuple(tuple(9 if row == column else 0 for column in range(100)) for row in range(100))
    found = mistakes(ConfusionDocument(run="r", round=1, classes=classes, counts=counts))
    assert (found.numbered, len(found.coloured), found.right) == (False, 100, 1.0)
    assert render("confusion", found=found, round=1).count("<rect") == 100


def test_a_matrix_that_does_not_fit_its_classes_is_cut() -> None:
    found = mistakes(ConfusionDocument(run="r", round=1, classes=("a",), counts=((0, 1), (2, 3))))
    assert (found.rows, found.right) == (((found.rows[0][0],),), 0.0)


# -- notices ------------------------------------------------------------------------------------------


def texts(view: View, believed: Believed, text: str = "", missed: int = 0) -> list[str]:
    return [one.text for one in notices(view, Standing(believed, text), missed)]


def test_what_cannot_be_believed_is_said_first_and_nothing_while_all_is_well() -> None:
    view = View(TOPICS)
    assert texts(view, Believed.CURRENT) == []
    assert texts(view, Believed.UNREACHABLE, "no connection") == ["No connection."]
    view.take(TOPICS.topic(MONITOR_AGGREGATOR), AggregatorDocument(online=True).payload(), 0.0)
    assert texts(view, Believed.UNREACHABLE, "no connection") == [
        "No connection. What is shown is from before."
    ]
    assert texts(view, Believed.UNREACHABLE, "no connection: is it running?") == [
        "No connection: is it running? What is shown is from before."
    ]
    view.take(TOPICS.topic(MONITOR_AGGREGATOR), b"not a document", 0.0)
    said = texts(view, Believed.OFFLINE, "the aggregator is offline", missed=3)
    assert [line.partition(" ")[0] for line in said] == ["The", "3", "1"]


# -- markup -------------------------------------------------------------------------------------------


def test_nothing_from_the_broker_becomes_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    event = Happening(number=1, at_unix_s=0.0, kind=EventKind.LOST, text=evil, reason=f"{evil}!", user=evil)
    said = render("events", events=[event])
    one = device("pi-1", tags=(evil,), not_selected=evil)
    said += render("card", device=one, busy=True, stale=False, care=evil, spark="", hot=True)
    said += render("device", device=one, name="pi-1", stale=False, care=evil, fields=[("Tags", evil)])
    matrix = mistakes(ConfusionDocument(run="r", round=1, classes=(evil, "b"), counts=((1, 2), (3, 4))))
    said += render("confusion", found=matrix, round=1)
    assert "<img" not in said
    assert said.count("&lt;img") >= 9
