"""Fetching, training and evaluating: what is done, reported, declined and tried again."""

from typing import cast

import pytest

from broker import topics
from broker.messages import (
    MAX_PROGRAM_BYTES,
    MAX_SPEEDS,
    Announcement,
    DeclineReason,
    Invite,
    Presence,
    Report,
)
from edge_agent import effects, events
from edge_agent.events import FetchFault
from edge_agent.snapshot import RoundKey, Snapshot
from tests.edge_agent.agent_world import (
    BIRTH,
    LATER,
    NEW_THETA,
    OURS,
    PROGRAM,
    THETA,
    UPDATE,
    World,
    announcement,
    assignment,
    blob,
    federation,
    grant,
    receipt,
    trained,
)


def test_it_says_which_round_it_works_for_until_that_is_delivered(world: World) -> None:
    doing = [world.core.doing]
    world.begin_training()
    doing.append(world.core.doing)
    world.tell(trained(world.job()))
    doing.append(world.core.doing)
    world.tell(receipt())
    assert [*doing, world.core.doing] == [None, ("run-a", 1), ("run-a", 1), None]


def test_an_evaluation_is_fetched_done_and_reported_once(world: World) -> None:
    world.tell(events.Connected(OURS), announcement(1, assignment(1, "evaluating")))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(NEW_THETA.digest))
    assert world.all(effects.Evaluate) == [effects.Evaluate(1, assignment(1, "evaluating"))]
    assert world.state() == "evaluating"
    world.tell(events.Evaluated(1, {"accuracy": (3.0, 4.0)}))
    report = Report(run="run-a", round=1, metrics={"accuracy": (3.0, 4.0)})
    assert world.said(topics.REPORT) == [report]
    kept = Snapshot(session=10, sequence=1, evaluated=RoundKey("run-a", 1), report=report)
    assert world.effects[0] == effects.Persist(kept)
    world.tell(announcement(2, assignment(1, "evaluating")))
    assert (world.state(), world.said(topics.REPORT)) == ("idle", [])


def test_a_report_made_while_disconnected_is_said_on_connect_and_in_a_new_session(world: World) -> None:
    world.tell(announcement(1, assignment(1, "evaluating")))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(NEW_THETA.digest))
    world.tell(events.Evaluated(1, {}))
    assert world.said(topics.REPORT) == []
    report = [Report(run="run-a", round=1, metrics={})]
    world.tell(events.Connected(OURS))
    assert world.said(topics.REPORT) == report
    world.tell(federation(11))
    assert world.said(topics.REPORT) == []
    world.wait()
    assert world.said(topics.REPORT) == report


def test_a_report_is_said_again_after_a_restart_until_the_round_is_over(world: World) -> None:
    world.tell(announcement(1, assignment(1, "evaluating")))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(NEW_THETA.digest))
    world.tell(events.Evaluated(1, {}))
    restarted = World(world.core.snapshot())
    restarted.tell(events.Connected(OURS))
    assert restarted.said(topics.REPORT) == [Report(run="run-a", round=1, metrics={})]
    restarted.tell(announcement(2, assignment(2)), events.Connected(LATER))
    assert restarted.said(topics.REPORT) == []
    world.tell(announcement(1, assignment(2), session=11), events.Disconnected(), events.Connected(LATER))
    assert world.said(topics.REPORT) == []


# Failures.


def test_a_runtime_that_is_not_installed_is_declined_once(world: World) -> None:
    world.tell(events.Connected(OURS), announcement(1, assignment(runtime="torch")))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert (report.declined, report.round) == (DeclineReason.RUNTIME, 1)
    world.tell(announcement(2, assignment(runtime="torch")))
    assert world.said(topics.REPORT) == []
    world.tell(announcement(3, assignment(2)))
    assert world.state() == "fetching"


def test_what_the_trainer_cannot_do_is_declined_with_its_reason(world: World) -> None:
    job = world.begin_training()
    world.tell(events.TrainingFailed(job, DeclineReason.CONTRACT, "x" * 1000))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert (report.declined, len(report.detail)) == (DeclineReason.CONTRACT, 300)
    assert world.state() == "idle"
    world.tell(announcement(2, assignment()))
    assert world.state() == "idle"


def needy(round_number: int = 1, phase: str = "training", **needs: object) -> Announcement:
    """A round of a task with needs; the second announcement and those after it."""
    return announcement(1 + round_number, assignment(round_number, phase, needs=needs))


def test_the_speed_on_a_new_program_is_persisted_and_then_told_in_another_birth(world: World) -> None:
    job = world.begin_training()
    world.tell(events.SpeedMeasured(job, 12.5))
    kept = Snapshot(session=10, sequence=1, speeds={PROGRAM.digest: 12.5})
    birth = BIRTH.model_copy(update={"connection": OURS, "speeds": {PROGRAM.digest: 12.5}})
    assert world.effects == [effects.Persist(kept), effects.Publish(topics.PRESENCE, birth)]
    assert world.state() == "training"
    restarted = World(world.core.snapshot())
    restarted.tell(events.Connected(OURS))
    assert restarted.said(topics.PRESENCE) == [birth]


def test_the_speed_on_a_known_program_stays_what_it_was_measured_first(world: World) -> None:
    job = world.begin_training()
    world.tell(events.SpeedMeasured(job, 12.5))
    assert world.tell(events.SpeedMeasured(job, 99.0)) == []
    assert world.core.snapshot().speeds == {PROGRAM.digest: 12.5}


def test_a_speed_measured_without_a_connection_is_told_with_the_next_one(world: World) -> None:
    job = world.begin_training()
    world.tell(events.Disconnected(), events.SpeedMeasured(job, 12.5))
    assert world.said(topics.PRESENCE) == []
    world.tell(events.Connected(LATER))
    (birth,) = cast("list[Presence]", world.said(topics.PRESENCE))
    assert birth.speeds == {PROGRAM.digest: 12.5}


def test_the_speeds_of_the_newest_programs_are_kept() -> None:
    older = {f"{number:064x}": 1.0 for number in range(MAX_SPEEDS)}
    world = World(Snapshot(speeds=older))
    world.tell(events.SpeedMeasured(world.begin_training(), 2.0))
    assert list(world.core.snapshot().speeds) == [*list(older)[1:], PROGRAM.digest]


def test_a_device_that_turns_out_too_slow_stops_training_and_says_so_in_figures(world: World) -> None:
    world.tell(events.Connected(OURS), needy(1, examples_per_s=50))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))
    world.tell(events.SpeedMeasured(world.job(), 12.04))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert (report.declined, report.detail) == (
        DeclineReason.NEEDS,
        "trains 12 examples/s, the task needs 50",
    )
    assert world.all(effects.StopTraining) == [effects.StopTraining()]
    assert world.state() == "idle"


def test_a_device_known_to_be_too_slow_declines_before_it_fetches_anything() -> None:
    world = World(Snapshot(speeds={PROGRAM.digest: 12.0}))
    world.tell(events.Connected(OURS), needy(1, examples_per_s=50))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert report.declined is DeclineReason.NEEDS
    assert world.all(effects.Fetch) == []
    world.tell(needy(2, examples_per_s=12))
    assert world.state() == "fetching"


def test_a_round_that_is_evaluated_is_left_to_others_without_a_word_by_who_lacks_a_need(
    world: World,
) -> None:
    world.tell(events.Connected(OURS), needy(1, "evaluating", tags=("indoor",)))
    assert (world.state(), world.said(topics.REPORT)) == ("idle", [])
    world.tell(announcement(3, assignment(2, "evaluating", runtime="torch")))
    assert (world.state(), world.said(topics.REPORT)) == ("idle", [])
    world.tell(needy(3, "evaluating", examples=7))
    assert world.state() == "fetching"


def test_a_trainer_that_dies_is_tried_once_more_and_then_the_round_is_declined(world: World) -> None:
    job = world.begin_training()
    world.tell(events.TrainerDied(job, "SIGKILL"))
    retry = world.job()
    assert (retry != job, world.state()) == (True, "training")
    assert isinstance(world.tell(events.TrainerDied(job, "SIGKILL"))[0], effects.Reject)
    world.tell(events.TrainerDied(retry, "SIGKILL"))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert report.declined is DeclineReason.TRAINING_FAILED
    world.tell(announcement(2, assignment(2)))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))
    world.tell(events.TrainerDied(world.job(), "SIGKILL"))
    assert world.state() == "training"


def test_who_declined_the_training_is_waited_for_when_the_round_is_evaluated_and_evaluates(
    world: World,
) -> None:
    world.tell(events.TrainingFailed(world.begin_training(), DeclineReason.TRAINING_FAILED, "NaN"))
    world.tell(announcement(2, None), announcement(3, assignment(1, "evaluating")))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(NEW_THETA.digest))
    assert world.state() == "evaluating"
    world.tell(events.TrainingFailed(world.job(), DeclineReason.DATA, "gone"))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert (report.round, report.declined) == (1, DeclineReason.DATA)
    world.tell(announcement(4, assignment(1, "evaluating")))
    assert (world.state(), world.said(topics.REPORT)) == ("idle", [])


def test_a_blob_that_arrived_wrong_is_fetched_again_after_a_while(world: World) -> None:
    world.tell(announcement(1, assignment()))
    world.tell(events.FetchFailed(THETA.digest, FetchFault.CONTENT, "wrong digest"))
    assert world.all(effects.Fetch) == []
    world.wait()
    assert world.all(effects.Fetch) == [effects.Fetch((PROGRAM, THETA))]
    assert world.core.next_deadline() is None


def test_a_full_disk_declines_the_round(world: World) -> None:
    world.tell(events.Connected(OURS), announcement(1, assignment()))
    world.tell(events.FetchFailed(THETA.digest, FetchFault.STORAGE, "no space"))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert report.declined is DeclineReason.DISK
    assert world.all(effects.StopFetching)


@pytest.mark.parametrize(
    "event",
    [
        events.Fetched("9" * 64),
        events.FetchFailed("9" * 64, FetchFault.CONTENT, ""),
        events.TrainingProgressed(1, 0.5, 1.0),
        trained(1),
        events.Evaluated(1, {}),
        events.TrainingFailed(1, DeclineReason.DATA, ""),
        events.TrainerDied(1, ""),
        events.UpdateLost(UPDATE.transfer, ""),
        events.Disconnected(),
        events.PresenceSeen(BIRTH, retained=False),
        Invite(run="run-a", round=1),
        grant((0,)),
        receipt(),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_makes_no_sense_while_idle_is_rejected(world: World, event: events.Event) -> None:
    assert [type(effect) for effect in world.tell(event)] == [effects.Reject]


def test_a_program_larger_than_any_is_declined_and_not_fetched(world: World) -> None:
    world.tell(events.Connected(OURS))
    world.tell(announcement(1, assignment(program=blob("1", MAX_PROGRAM_BYTES + 1))))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert report.declined is DeclineReason.PROGRAM
    assert world.all(effects.Fetch) == []


def test_an_evaluation_is_done_though_the_rounds_update_was_lost(world: World) -> None:
    world.begin_uploading()
    world.tell(events.UpdateLost(UPDATE.transfer, "disk gone"), announcement(2, assignment(1, "evaluating")))
    assert world.state() == "fetching"
