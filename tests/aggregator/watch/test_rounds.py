"""What is told of rounds and runs, from the coordinator and from the ledger."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import pytest

from aggregator.coordinator import events as on
from aggregator.coordinator.cohort import MAX_COHORT
from aggregator.coordinator.state import Participant, Step
from aggregator.ledger_rows import RoundRow
from aggregator.watch.confusion import confusion_path
from aggregator.watch.pages import RECENT_EVERY_S
from aggregator.watch.rounds import DETAILED_PARTICIPANTS
from aggregator.watch.runs import history, seconds_left
from broker.monitor import (
    MAX_DOCUMENT_BYTES,
    MAX_HISTORY_BYTES,
    MAX_HISTORY_ROUNDS,
    MAX_ROUND_BYTES,
    ParticipantDocument,
    RoundDocument,
    StepDocument,
)
from tests.aggregator.coordinator.world import RUN, World, theta
from tests.aggregator.watch.screen import ROUND_TOPIC, RUN_TOPIC, Screen


def row(number: int, opened: float, seconds: float, outcome: str = "completed") -> RoundRow:
    return RoundRow(
        round=number,
        target=2,
        quorum=1,
        participants=2,
        accepted=1,
        bytes_up=100,
        bytes_down=300,
        opened_unix_s=opened,
        closed_unix_s=opened + seconds,
        outcome=outcome,
        reason=None,
        theta=theta(number),
        metrics={"loss": (1.0, 2.0)},
        federated=None,
    )


def test_an_open_round_is_told_with_all_that_its_participants_said() -> None:
    screen = Screen()
    world = screen.world
    world.begin_training("a", "b")
    world.upload("a")
    assert world.run.round is not None
    part = world.run.round.cohort["a"]
    part.training, part.seconds, part.bytes_down = {"loss": (3.0, 4.0)}, 12.5, 9000
    part.steps = [Step(state="fetching", at_s=0.5), Step(state="training", at_s=2.0)]
    screen.look()
    shown = screen.shown[ROUND_TOPIC]
    told = shown["participants"]["a"]
    assert (told["training"], told["validation"]) == ({"loss": 0.75}, {"accuracy": 0.75})
    assert (told["seconds"], told["bytes_up"], told["bytes_down"]) == (12.5, 4100, 9000)
    assert told["steps"] == [{"state": "fetching", "at_s": 0.5}, {"state": "training", "at_s": 2.0}]
    assert (shown["bytes_up"], shown["bytes_down"]) == (4100, 9000)
    assert screen.shown["devices/a"]["loss"] == 0.75


def test_a_reported_evaluation_is_told_of_its_device() -> None:
    screen = Screen()
    screen.world.begin_evaluating("a", "b")
    screen.world.report("a", {"loss": (1.0, 4.0)})
    screen.look()
    parts = screen.shown[ROUND_TOPIC]["participants"]
    assert (parts["a"]["evaluation"], parts["b"]["evaluation"]) == ({"loss": 0.25}, {})


def test_it_is_told_since_when_a_round_is_open_and_how_long_its_phases_took() -> None:
    screen = Screen()
    world = screen.world
    world.begin_training("a")
    clock = world.ledger.rounds(RUN)[0].opened_unix_s
    screen.look()
    shown = screen.shown[ROUND_TOPIC]
    assert (shown["opened_unix_s"], shown["durations_s"]) == (clock, {})
    assert shown["seconds"] >= 0
    world.upload("a")
    world.aggregated()
    screen.look()
    assert sorted(screen.shown[ROUND_TOPIC]["durations_s"]) == ["aggregating", "training"]


def test_the_target_is_expected_when_the_update_is_due_that_reaches_it() -> None:
    screen = Screen(deadline_s=600.0, quorum=2, target=2, over_selection=2)
    world = screen.world
    world.begin_training("a", "b", "c")
    screen.look()
    assert screen.shown[ROUND_TOPIC]["eta_s"] is None, "nothing is known yet"
    world.train(40.0, a=1 / 60, b=1 / 100, c=1 / 400)
    screen.look(5.0)
    assert screen.shown[ROUND_TOPIC]["eta_s"] == pytest.approx(55.0, abs=1.0)
    assert screen.shown[ROUND_TOPIC]["eta_s"] == screen.shown["devices/b"]["seconds_left"]


def test_where_fewer_are_left_than_the_target_needs_the_last_of_them_is_expected() -> None:
    screen = Screen(deadline_s=600.0, quorum=1, target=3)
    world = screen.world
    world.begin_training("a", "b", "c")
    world.died("c")
    world.train(40.0, a=1 / 60, b=1 / 100)
    screen.look(5.0)
    assert screen.shown[ROUND_TOPIC]["eta_s"] == pytest.approx(55.0, abs=1.0)


def test_a_closed_round_is_told_from_the_ledger() -> None:
    screen = Screen()
    screen.world.begin_training("a", "b")
    screen.world.died("b")
    screen.complete_round()
    screen.look()
    shown = screen.shown[ROUND_TOPIC]
    told = shown["participants"]["a"]
    assert (told["training"], told["validation"]) == ({"loss": 0.5}, {"accuracy": 0.75})
    assert (told["evaluation"], told["seconds"], told["bytes_up"]) == ({"loss": 0.25}, 1.5, 4100)
    assert sorted(shown["durations_s"]) == ["aggregating", "evaluating", "training"]
    assert shown["seconds"] >= sum(shown["durations_s"].values()) - 0.01
    assert shown["opened_unix_s"] == screen.world.ledger.rounds(RUN)[0].opened_unix_s
    assert shown["renewed_every_s"] == 0, "it is final"
    device = screen.shown["devices/a"]
    assert (device["asked"], device["accepted"], device["reliability"]) == (1, 1, 1.0)
    assert (device["contribution"], device["loss"]) == (1.0, 0.5)
    assert (screen.shown["devices/b"]["asked"], screen.shown["devices/b"]["reliability"]) == (1, 0.0)


def test_history_grows_with_each_round() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    screen.look()
    assert f"{RUN_TOPIC}/history" not in screen.shown
    for _ in range(2):
        screen.complete_round()
        screen.look()
    rounds = screen.shown[f"{RUN_TOPIC}/history"]["rounds"]
    assert [(one["round"], one["outcome"], one["metrics"]) for one in rounds] == [
        (1, "completed", {"loss": 0.5}),
        (2, "completed", {"loss": 0.5}),
    ]


@pytest.mark.parametrize("count", [1, 199, 200, 201, 399, 1000])
def test_of_many_rounds_evenly_chosen_ones_are_kept_and_the_last(count: int) -> None:
    closed = [row(number, 100.0 * number, 10.0) for number in range(1, count + 1)]
    rounds = [one.round for one in history(RUN, closed).rounds]
    assert len(rounds) == (count if count <= MAX_HISTORY_ROUNDS else len(rounds))
    assert min(count, MAX_HISTORY_ROUNDS) / 2 <= len(rounds) <= MAX_HISTORY_ROUNDS
    assert rounds[-1] == count
    assert len({later - earlier for earlier, later in pairwise(rounds)}) <= 1


def test_metrics_that_devices_invent_do_not_make_a_history_that_viewers_refuse() -> None:
    invented = {f"{number:064}": (1.0, 3.0) for number in range(64)}
    closed = [
        dataclasses.replace(row(number, 100.0 * number, 10.0), federated=invented) for number in range(1, 201)
    ]
    found = history(RUN, closed)
    assert len(found.payload()) <= MAX_HISTORY_BYTES
    assert len(found.rounds) > 10
    assert found.rounds[-1].round == 200


def test_a_run_ends_at_the_pace_of_its_newest_rounds() -> None:
    world = World(rounds=10)
    world.begin_training("a")
    world.run.completed = 3
    closed = [row(1, 0.0, 20.0), row(2, 20.0, 20.0, "abandoned"), row(3, 40.0, 20.0), row(4, 60.0, 30.0)]
    assert seconds_left(world.run, closed, 90.0) == 30.0 * 7
    assert seconds_left(world.run, closed, 100.0) == 30.0 * 7 - 10
    assert seconds_left(world.run, closed, 1000.0) == 0.0
    assert seconds_left(world.run, [], 90.0) is None
    assert seconds_left(world.run, closed[1:2], 90.0) is None
    world.run.completed = 0
    world.tell(on.PauseRun())
    assert seconds_left(world.run, closed, 90.0) is None


def test_a_run_is_told_with_its_size_and_when_it_ended() -> None:
    screen = Screen(rounds=2)
    screen.world.begin_training("a")
    screen.look()
    shown = screen.shown[RUN_TOPIC]
    assert (shown["parameters"], shown["ended_unix_s"], shown["seconds_left"]) == (1000, None, None)
    screen.complete_round()
    screen.look()
    assert screen.shown[RUN_TOPIC]["seconds_left"] is not None
    screen.complete_round()
    screen.look()
    shown = screen.shown[RUN_TOPIC]
    assert (shown["state"], shown["parameters"]) == ("finished", 1000)
    assert shown["ended_unix_s"] >= shown["started_unix_s"]


def test_the_confusion_matrix_of_the_newest_evaluated_round_is_shown(tmp_path: Path) -> None:
    screen = Screen(tmp_path)
    screen.world.begin_training("a")
    path = confusion_path(tmp_path, RUN, 1)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"classes": ["cat", "dog"], "counts": [[3, 1], [0, 4]]}))
    screen.look()
    assert f"{RUN_TOPIC}/confusion" not in screen.shown
    screen.complete_round()
    screen.look()
    shown = screen.shown[f"{RUN_TOPIC}/confusion"]
    assert (shown["round"], shown["counts"]) == (1, [[3, 1], [0, 4]])
    screen.complete_round()
    assert f"{RUN_TOPIC}/confusion" not in screen.look(), "the second round left none"


def test_of_a_large_open_round_only_what_is_known_of_its_participants_is_said() -> None:
    screen = Screen()
    screen.world.begin_training("a")
    current = screen.world.run.round
    assert current is not None
    names = [f"pi-{number:04}" for number in range(500)]
    current.cohort = {name: Participant() for name in names}
    current.cohort["pi-0000"] = Participant(accepted="0" * 64, validation={"loss": (1.0, 2.0)}, size=4100)
    screen.look()
    shown = screen.shown[ROUND_TOPIC]
    assert shown["participants"]["pi-0001"] == {"status": "lost"}
    assert shown["participants"]["pi-0000"] == {"status": "accepted", "bytes_up": 4100}
    assert len(json.dumps(shown, separators=(",", ":"))) < 20_000
    assert len(RoundDocument.model_validate(shown).participants) == 500
    current.cohort = {name: current.cohort[name] for name in names[:DETAILED_PARTICIPANTS]}
    screen.look(10.0)
    assert screen.shown[ROUND_TOPIC]["participants"]["pi-0000"]["validation"] == {"loss": 0.5}


def test_the_document_of_a_huge_round_can_be_sent() -> None:
    validation = {f"accuracy on part {number}": (3.0, 4.0) for number in range(8)}
    screen = Screen()
    screen.world.begin_training("a")
    current = screen.world.run.round
    assert current is not None
    part = Participant(accepted="0" * 64, examples=1 << 40, size=4100, validation=validation, note="x" * 60)
    current.cohort = dict.fromkeys([f"{'d' * 27}-{number:04}" for number in range(MAX_COHORT)], part)
    screen.look()
    shown = screen.shown[ROUND_TOPIC]
    assert (len(shown["participants"]), shown["reported"]) == (MAX_COHORT, MAX_COHORT)
    assert len(json.dumps(shown, separators=(",", ":"))) < MAX_DOCUMENT_BYTES


@pytest.mark.parametrize(
    ("participants", "told"),
    [
        (
            100,
            {"status", "training", "validation", "evaluation", "seconds", "bytes_up", "bytes_down", "steps"},
        ),
        (250, {"status", "training", "validation", "evaluation", "seconds", "bytes_up", "bytes_down"}),
        (500, {"status", "training", "evaluation"}),
        (1000, {"status"}),
    ],
    ids=["some", "many", "hundreds", "a thousand"],
)
def test_the_larger_a_round_the_less_its_document_details_each_part(
    participants: int, told: set[str]
) -> None:
    part = ParticipantDocument(
        status="accepted",
        training={"loss": 1 / 3},
        validation={"loss": 2 / 3},
        evaluation={"loss": 1 / 7},
        seconds=12.5,
        bytes_up=4100,
        bytes_down=9000,
        steps=tuple(StepDocument(state=state, at_s=1.25) for state in ("fetching", "training", "uploading")),
    )
    names = [f"pi-{number:04}" for number in range(participants)]
    document = RoundDocument(
        run=RUN,
        round=1,
        phase="closed",
        target=participants,
        quorum=1,
        reported=participants,
        participants=dict.fromkeys(names, part),
    )
    payload = document.payload()
    shown = json.loads(payload)["participants"]["pi-0000"]
    assert len(payload) <= MAX_ROUND_BYTES
    assert set(shown) == told
    assert shown.get("evaluation", {"loss": 0.142857}) == {"loss": 0.142857}


def test_the_newest_events_are_kept_for_who_comes_late_and_rarely_said_again() -> None:
    screen = Screen()
    screen.world.tell(on.Connected())
    looks = 0
    for name in "abcdefgh":
        screen.world.beat(*"abcdefgh"[: "abcdefgh".index(name)])
        screen.world.born(name)
        looks += "recent" in screen.look(RECENT_EVERY_S / 4)
    assert looks == 2
    screen.look(RECENT_EVERY_S)
    recent = screen.shown["recent"]
    assert (recent["session"], [one["device"] for one in recent["events"]]) == (7, list("abcdefgh"))
    assert [event.number for event in screen.told] == list(range(1, 9))


def test_documents_that_are_large_are_all_said_in_the_end(tmp_path: Path) -> None:
    screen = Screen(tmp_path)
    screen.world.begin_training("a")
    path = confusion_path(tmp_path, RUN, 1)
    path.parent.mkdir(parents=True)
    size = 100
    path.write_text(
        json.dumps({"classes": ["a class of some length"] * size, "counts": [[1000] * size] * size})
    )
    screen.look()
    current = screen.world.run.round
    assert current is not None
    screen.complete_round()
    current = screen.world.run.round
    assert current is not None
    part = Participant(note="what was decided about it, in some length")
    current.cohort |= dict.fromkeys([f"pi-{number:04}" for number in range(1000)], part)
    said: list[str] = []
    for number in range(40):
        current.note = f"changed {number} times"
        said += screen.look()
    wanted = {f"{RUN_TOPIC}/confusion", f"{RUN_TOPIC}/history", ROUND_TOPIC, f"{RUN_TOPIC}/rounds/2"}
    assert wanted <= set(said)
    assert said.count(f"{RUN_TOPIC}/rounds/2") >= 2
