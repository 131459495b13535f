import pytest

from aggregator.coordinator import events as on
from aggregator.coordinator.phases import Phase
from aggregator.records import (
    DeviceExcluded,
    Incident,
    IncidentKind,
    RequestAnswered,
    RoundOpened,
    RunStarted,
)
from aggregator.watch.board import RENEWED_FROM
from aggregator.watch.pages import RENEWED_EVERY_S
from aggregator.watch.watch import KEPT_ROUNDS, KEPT_RUNS
from broker.control import Verb
from broker.happenings import EventDocument
from broker.messages import AgentState, DeclineReason, Heartbeat, RejectReason, Report
from broker.monitor import Document
from tests.aggregator.coordinator.world import PROGRAM, RUN, connection, offer
from tests.aggregator.watch.screen import RATE_S, ROUND_TOPIC, RUN_TOPIC, Screen


def test_an_empty_federation_is_shown() -> None:
    screen = Screen()
    assert screen.look() == ["federation"]
    shown = screen.shown["federation"]
    assert (shown["devices"], shown["live"], shown["run"], shown["phase"]) == (0, 0, None, "idle")
    assert shown["renewed_every_s"] == RENEWED_EVERY_S
    assert shown["at_unix_s"] > 0


def test_documents_appear_with_what_they_are_about() -> None:
    screen = Screen()
    screen.world.begin_training("a", "b")
    assert screen.look() == ["devices/a", "devices/b", "federation", "recent", RUN_TOPIC, ROUND_TOPIC]
    assert screen.shown["federation"]["live"] == 2
    assert screen.shown["federation"]["run"] == RUN
    shown = screen.shown[ROUND_TOPIC]
    assert (shown["phase"], shown["target"], shown["quorum"], shown["reported"]) == ("training", 2, 1, 0)
    assert shown["seconds_left"] == 100.0
    assert shown["participants"]["a"]["status"] == "invited"
    assert screen.shown["devices/b"]["live"]


def test_it_is_shown_when_an_update_is_due_and_who_straggles() -> None:
    screen = Screen(deadline_s=600.0, quorum=2)
    world = screen.world
    world.begin_training("a", "b", "c")
    world.train(40.0, a=1 / 40, b=1 / 50, c=1 / 400)
    screen.look()
    assert screen.shown["devices/c"]["seconds_left"] == pytest.approx(360.0, abs=1.0)
    assert screen.look() == [], "time alone is no reason to write it anew"
    world.upload("a")
    screen.look()
    assert screen.shown["devices/a"]["seconds_left"] is None


def test_a_straggler_is_shown_as_such() -> None:
    screen = Screen(deadline_s=100.0)
    screen.world.begin_training("a")
    screen.world.train(20.0, a=1 / 400)
    screen.look()
    assert screen.shown[ROUND_TOPIC]["participants"]["a"]["status"] == "straggles"
    assert screen.shown[ROUND_TOPIC]["participants"]["a"]["reason"].startswith("straggles: due in ")


def test_a_run_is_shown_with_its_start_from_its_first_round_on() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    screen.look()
    shown = screen.shown[RUN_TOPIC]
    assert shown["started_unix_s"] == screen.world.ledger.runs()[0].started_unix_s
    assert (shown["state"], shown["round"], shown["rounds"]) == ("training", 1, 10)


def test_only_what_changed_is_written() -> None:
    screen = Screen()
    screen.world.begin_training("a", "b")
    screen.look()
    assert screen.look() == []
    beat = Heartbeat(
        connection=connection("a"), state=AgentState.TRAINING, progress=0.25, temperature_c=61.0, battery=0.5
    )
    screen.world.tell(on.DeviceHeartbeat("a", beat))
    assert screen.look() == ["devices/a", "federation"]
    assert screen.shown["federation"]["states"] == {"idle": 1, "training": 1}
    shown = screen.shown["devices/a"]
    assert (shown["state"], shown["progress"]) == ("training", 0.25)
    assert (shown["temperature_c"], shown["battery"]) == (61.0, 0.5)
    screen.world.upload("a")
    assert screen.look() == ["devices/a", ROUND_TOPIC]


def test_time_passing_alone_writes_nothing_before_the_renewal_which_is_not_at_once_for_all() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    names = {*screen.look()} - {"recent"}
    screen.world.tell(on.Tick())
    assert screen.look(5.0) == []
    screen.world.live(RENEWED_FROM * RENEWED_EVERY_S - 6.0, "a")
    assert screen.look() == []
    renewed = set()
    for _ in range(int((1 - RENEWED_FROM) * RENEWED_EVERY_S / RATE_S)):
        renewed.update(screen.look())
    assert renewed == names


def test_it_looks_again_after_its_rate() -> None:
    screen = Screen()
    screen.look()
    assert screen.watch.next_deadline() == screen.world.now + RATE_S


def test_everything_is_said_again_after_a_new_connection() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    names = screen.look()
    screen.watch.forget()
    assert screen.watch.next_deadline() == 0.0
    assert screen.look() == names


def test_observers_see_every_document_as_it_was_published() -> None:
    screen = Screen()
    seen: list[tuple[str, Document | EventDocument]] = []
    screen.watch.observers.append(lambda topic, document: seen.append((topic, document)))
    screen.world.begin_training("a")
    screen.look()
    names = [topic.removeprefix(screen.root) for topic, _ in seen]
    assert [name for name in names if name != "events"] == screen.written
    assert [document for topic, document in seen if topic.endswith("/events")] == screen.told
    shown = dict(zip(names, (document for _, document in seen), strict=True))
    for name, document in screen.shown.items():
        assert shown[name].model_dump(mode="json") == document


def test_an_observer_that_fails_keeps_nothing_from_being_published(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_topic: str, _document: Document | EventDocument) -> None:
        raise RuntimeError("the view is broken")

    screen = Screen()
    screen.watch.observers.append(fails)
    assert screen.look() == ["federation"]
    assert "an observer of FederationDocument failed" in caplog.text


def test_what_could_not_be_sent_is_sent_at_the_next_look() -> None:
    screen = Screen()
    screen.accepts = False
    screen.world.begin_training("a")
    assert screen.look() == []
    screen.accepts = True
    assert screen.look() == ["devices/a", "federation", "recent", RUN_TOPIC, ROUND_TOPIC]
    assert [event.kind for event in screen.told] == ["run-started", "round-opened", "joined"]


@pytest.mark.parametrize("status", ["accepted", "rejected", "declined", "lost"])
def test_a_participant_is_shown_with_what_became_of_it(status: str) -> None:
    screen = Screen(target=2, over_selection=2)
    world = screen.world
    world.begin_training("a", "b", "c")
    if status == "accepted":
        world.upload("a")
    elif status == "rejected":
        world.tell(on.UpdateRejected("a", offer("a"), RejectReason.NORM))
    elif status == "declined":
        world.tell(on.DeviceReport("a", Report(run=RUN, round=1, declined=DeclineReason.DISK)))
    else:
        world.died("a")
    screen.look()
    shown = screen.shown[ROUND_TOPIC]["participants"]["a"]
    assert shown["status"] == status
    reasons = {"rejected": "norm-too-large", "declined": "disk", "lost": "lost: its connection ended"}
    assert shown["reason"] == reasons.get(status, "")
    assert shown["validation"] == ({"accuracy": 0.75} if status == "accepted" else {})
    assert screen.shown["devices/a"]["state"] == ("lost" if status == "lost" else "idle")


def test_a_paused_run_says_so_and_why() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    screen.world.tell(on.PauseRun())
    screen.look()
    assert screen.shown["federation"]["phase"] == "paused"
    assert (screen.shown[RUN_TOPIC]["state"], screen.shown[RUN_TOPIC]["reason"]) == (
        "paused",
        "paused by an operator",
    )


def test_a_closed_round_has_a_final_document() -> None:
    screen = Screen()
    screen.world.begin_training("a", "b")
    screen.look()
    screen.world.offer("b")
    screen.world.died("b")
    screen.complete_round()
    assert screen.watch.next_deadline() == 0.0, "at once"
    screen.look()
    shown = screen.shown[ROUND_TOPIC]
    assert (shown["phase"], shown["outcome"], shown["reported"]) == ("closed", "completed", 1)
    assert (shown["metrics"], shown["federated"]) == ({"loss": 0.5}, {"loss": 0.25})
    assert shown["participants"]["a"]["status"] == "accepted"
    assert shown["participants"]["b"]["status"] == "missing"
    assert shown["bytes_up"] == 4100
    assert screen.shown[RUN_TOPIC]["metrics"] == {"loss": 0.5}
    assert screen.shown[f"runs/{RUN}/rounds/2"]["phase"] == "training"


def test_a_round_that_closed_while_nothing_could_be_sent_is_shown_later() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    screen.look()
    screen.accepts = False
    screen.complete_round()
    screen.look()
    screen.accepts = True
    screen.watch.forget()
    screen.look()
    assert screen.shown[ROUND_TOPIC]["phase"] == "closed"


def test_a_stopped_run_leaves_a_final_round_and_a_final_run() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    screen.look()
    screen.world.tell(on.StopRun())
    screen.look()
    order = screen.written
    assert order.index(ROUND_TOPIC) < order.index(RUN_TOPIC), "who saw its end saw all of it"
    assert screen.shown[ROUND_TOPIC]["outcome"] == "abandoned"
    assert (screen.shown[RUN_TOPIC]["state"], screen.shown[RUN_TOPIC]["reason"]) == (
        "stopped",
        "stopped by an operator",
    )
    assert screen.shown["federation"]["run"] is None


def test_the_last_run_is_shown_by_the_next_process_too() -> None:
    screen = Screen(rounds=1)
    screen.world.begin_training("a")
    screen.complete_round()
    screen.shown.clear()
    screen.begin()
    history = f"{RUN_TOPIC}/history"
    assert screen.look() == ["devices/a", "federation", "recent", RUN_TOPIC, history, ROUND_TOPIC]
    assert screen.shown[RUN_TOPIC]["state"] == "finished"


def test_rounds_beyond_those_kept_leave_the_broker_and_the_memory() -> None:
    screen = Screen(rounds=100)
    screen.world.begin_training("a")
    for _ in range(KEPT_ROUNDS + 5):
        screen.look()
        screen.complete_round()
    screen.look()
    for _ in range(10):
        screen.look()
    rounds = [name for name in screen.shown if "/rounds/" in name]
    assert len(rounds) == KEPT_ROUNDS + 1, "and the open one"
    assert f"runs/{RUN}/rounds/{screen.world.number}" in rounds
    assert ROUND_TOPIC not in rounds
    assert len(screen.watch._board) <= 8
    assert screen.world.core.phase is Phase.TRAINING


def test_a_device_that_two_machines_claim_is_marked() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    screen.world.live(15.0, "a")
    screen.world.beat("a", life=2)
    screen.look()
    assert screen.shown["devices/a"]["conflict"]


def test_a_device_that_does_not_fit_is_shown_with_the_reason_and_its_speed() -> None:
    screen = Screen()
    screen.world.begin_waiting(tags=("indoor",), examples_per_s=50.0)
    screen.world.born_with("a", speeds={PROGRAM.digest: 12.0}, tags=("indoor",))
    screen.world.born("b")
    screen.look()
    shown = screen.shown["devices/a"]
    assert (shown["not_selected"], shown["measured_per_s"]) == (
        "trains 12 examples/s, the task needs 50",
        12.0,
    )
    assert screen.shown["devices/b"]["not_selected"] == "lacks tag indoor"
    assert screen.shown["devices/b"]["measured_per_s"] is None
    shown = screen.shown[RUN_TOPIC]
    assert shown["state"] == "waiting"
    assert shown["reason"] == "waits for devices: 1 needed, 0 fit; kept out: 1 speed, 1 tags"


def test_nobody_is_judged_before_there_is_something_to_judge_by() -> None:
    screen = Screen()
    screen.world.tell(on.Connected())
    screen.world.born_with("a", runtimes=("torch",))
    screen.look()
    screen.world.start()
    assert screen.look() == ["federation", RUN_TOPIC]
    assert screen.shown["devices/a"]["not_selected"] == ""
    screen.world.prepared()
    screen.look()
    assert screen.shown["devices/a"]["not_selected"] == "has no runtime keras, only torch"


def test_a_run_that_found_its_devices_says_no_longer_why_it_waits() -> None:
    screen = Screen()
    screen.world.begin_waiting(tags=("indoor",))
    screen.look()
    assert screen.shown[RUN_TOPIC]["reason"] == "waits for devices: 1 needed, 0 fit"
    screen.world.born_with("a", tags=("indoor",))
    screen.look()
    assert (screen.shown[RUN_TOPIC]["state"], screen.shown[RUN_TOPIC]["reason"]) == ("training", "")
    assert screen.shown["devices/a"]["not_selected"] == ""


def test_a_paused_run_does_not_wait_for_devices() -> None:
    screen = Screen()
    screen.world.begin_waiting()
    screen.look()
    assert screen.watch.waits == "waits for devices: 1 needed, 0 fit"
    screen.world.tell(on.PauseRun())
    screen.look()
    assert screen.watch.waits == ""


def test_a_run_says_that_its_stopping_rule_is_about_nothing_measured() -> None:
    screen = Screen(stop_when="acuracy >= 0.1")
    screen.world.begin_training("a")
    screen.look()
    assert screen.shown[RUN_TOPIC]["reason"] == ""
    screen.complete_round()
    screen.look()
    assert screen.shown[RUN_TOPIC]["reason"] == "stop_when: the evaluation has no 'acuracy', only 'loss'"


def test_messages_that_were_dropped_are_counted_in_the_open() -> None:
    screen = Screen()
    screen.look()
    screen.dropped += 3
    assert screen.look() == ["federation"]
    assert screen.shown["federation"]["messages_dropped"] == 3


def test_the_documents_of_the_oldest_run_leave_the_broker_when_a_new_one_begins() -> None:
    screen = Screen()
    for number in range(KEPT_RUNS + 1):
        started = RunStarted(f"run-{number}", "mnist", {"rounds": 1}, 0)
        opened = RoundOpened(f"run-{number}", 1, ("a",), 1, 1)
        screen.world.ledger.commit([started, opened], None)
    old = ["runs/run-0", "runs/run-0/confusion", "runs/run-0/history", "runs/run-0/rounds/1"]
    screen.shown = {name: {} for name in [*old, "runs/run-1"]}
    assert set(old) <= {*screen.look(), *screen.look()}
    assert not set(old) & screen.shown.keys()
    assert "runs/run-1" in screen.shown


def test_what_is_to_leave_the_broker_waits_until_it_can() -> None:
    screen = Screen()
    screen.world.tell(on.Connected())
    screen.world.born("a", "b")
    screen.look()
    screen.accepts = False
    screen.exclude("a")
    screen.look()
    assert "devices/a" in screen.shown
    screen.accepts = True
    screen.look()
    assert "devices/a" not in screen.shown


def test_mishaps_are_shown_newest_first_and_by_the_next_process_too() -> None:
    screen = Screen()
    assert "incidents" not in screen.look()
    for subject in ("spool/a", "spool/b"):
        screen.world.ledger.commit([Incident(IncidentKind.DAMAGED, "run-a", 1, subject, "is gone")], None)
    for _ in range(2):
        assert "incidents" in screen.look()
        told = screen.shown["incidents"]["incidents"]
        assert [(each["kind"], each["subject"]) for each in told] == [
            ("damaged", "spool/b"),
            ("damaged", "spool/a"),
        ]
        screen.begin()


def test_the_document_of_an_excluded_device_leaves_the_broker() -> None:
    screen = Screen()
    screen.world.tell(on.Connected())
    screen.world.born("a", "b")
    screen.look()
    screen.exclude("a")
    assert {"devices/a", "federation"} <= set(screen.look())
    assert "devices/a" not in screen.shown
    assert screen.shown["federation"]["devices"] == 1


def test_a_ledger_that_a_view_cannot_read_ends_no_round(caplog: pytest.LogCaptureFixture) -> None:
    screen = Screen(rounds=3)
    screen.world.begin_training("a")
    screen.look()
    screen.world.upload("a")
    screen.world.ledger._connection.execute("UPDATE updates SET validation = 'torn'")
    screen.world.aggregated()
    screen.world.published()
    screen.world.report("a")
    screen.world.evaluated()
    screen.look()
    assert screen.world.number == 2
    assert screen.shown["federation"]["run"] == RUN
    assert "reading the ledger failed" in caplog.text


def test_a_record_that_cannot_be_told_keeps_nothing_from_being_committed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    screen = Screen()
    unreadable = RequestAnswered("0" * 16, "ann", Verb.STOP, {}, "- idle", "- idle", b"no reply")
    screen.world.ledger.commit([unreadable, DeviceExcluded("a", "stolen")], None)
    screen.look()
    assert screen.world.ledger.excluded() == {"a": "stolen"}
    assert [event.kind for event in screen.told] == ["excluded"]
    assert "telling of a record failed" in caplog.text


def test_a_run_that_ends_a_moment_before_the_next_begins_is_shown_as_it_ended() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    screen.look()
    screen.world.tell(on.StopRun())
    screen.world.ledger.commit([RunStarted("run-b", "mnist", {"rounds": 1}, 0)], None)
    for _ in range(4):
        screen.look()
    assert screen.shown[RUN_TOPIC]["state"] == "stopped"
    assert screen.shown[RUN_TOPIC]["renewed_every_s"] == 0, "nobody says it again when there are newer ones"
    assert screen.shown[ROUND_TOPIC]["outcome"] == "abandoned"
    assert [line["round"] for line in screen.shown[f"{RUN_TOPIC}/history"]["rounds"]] == [1]


def test_rounds_that_close_faster_than_they_are_shown_leave_nothing_that_looks_open() -> None:
    screen = Screen(rounds=100)
    screen.world.begin_training("a")
    screen.look()
    screen.accepts = False
    for _ in range(5):
        screen.complete_round()
        screen.look()
    screen.accepts = True
    for _ in range(10):
        screen.look()
    phases = {name: shown["phase"] for name, shown in screen.shown.items() if "/rounds/" in name}
    newest = screen.world.number
    assert [name for name, phase in phases.items() if phase != "closed"] == [f"runs/{RUN}/rounds/{newest}"]


def test_what_an_earlier_process_did_not_take_off_the_broker_goes_at_the_next_connection() -> None:
    screen = Screen(rounds=100)
    screen.world.begin_training("a")
    for _ in range(KEPT_ROUNDS + 1):
        screen.look()
        screen.complete_round()
    screen.exclude("b")
    left = ["devices/b", f"runs/{RUN}/rounds/1"]
    screen.begin()
    screen.shown |= {name: {} for name in left}
    screen.watch.forget()
    for _ in range(10):
        screen.look()
    assert not {*left} & screen.shown.keys()
    assert f"runs/{RUN}/rounds/{KEPT_ROUNDS + 1}" in screen.shown
