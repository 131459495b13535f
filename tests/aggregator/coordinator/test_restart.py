import json

import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.phases import Phase
from aggregator.records import UpdateAccepted
from broker.messages import ReceiptOutcome
from tests.aggregator.coordinator.world import (
    HEARTBEAT_S,
    LOST_AFTER_S,
    PROGRAM,
    RUN,
    TASK,
    World,
    offer,
    theta,
)


def test_without_a_run_there_is_nothing_to_ask_again() -> None:
    empty = Coordinator(HEARTBEAT_S).snapshot()
    core = Coordinator.restore(empty, HEARTBEAT_S, 50.0)
    assert core.handle(on.Restored(), 50.0) == []
    assert core.run is None


def test_preparing_is_asked_for_again() -> None:
    world = World()
    world.start()
    assert world.restart() == [do.Prepare(RUN, TASK, world.settings)]


def test_waiting_goes_on_when_the_blobs_are_back_on_the_broker() -> None:
    world = World()
    world.begin_waiting()
    assert world.restart() == []
    assert world.tell(on.Connected()) == [do.PublishBlobs(RUN, (PROGRAM, theta(0)))]
    world.born("a")
    assert world.phase() is Phase.WAITING
    world.published()
    assert world.phase() is Phase.TRAINING


def test_training_goes_on_with_the_same_round_and_the_time_that_was_left() -> None:
    world = World()
    world.begin_training("a", "b")
    world.live(30.0, "a", "b")
    world.upload("a")
    world.wait(1.0)
    world.now += 1000.0
    assert world.restart() == []
    assert world.core.seconds_left == 70.0
    world.tell(on.Connected())
    world.published()
    (announce,) = world.all(do.Announce)
    assert announce.expiry_s == 70.0
    assert announce.assignment is not None
    assert (announce.assignment.round, announce.assignment.cohort) == (1, ("a", "b"))


def test_a_round_of_an_earlier_midge_which_kept_less_of_it_goes_on() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    kept = json.loads(world.core.snapshot())
    for part in kept["run"]["round"]["cohort"].values():
        for field in ("training", "seconds", "bytes_down", "counted_down", "steps"):
            del part[field]
    del kept["run"]["round"]["open_s"]
    world.core = Coordinator.restore(json.dumps(kept).encode(), HEARTBEAT_S, world.now)
    world.tell(on.Connected())
    world.upload("b")
    assert world.phase() is Phase.AGGREGATING


def test_what_was_accepted_stays_accepted() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.restart()
    world.offer("a")
    assert world.receipts() == [("a", "accepted", None)]
    world.tell(on.UpdateReceived("a", offer("a")))
    assert world.rejected() == "an update of this device was accepted before"
    world.upload("b")
    (aggregate,) = world.all(do.Aggregate)
    assert aggregate.updates == (("a", offer("a").examples), ("b", offer("b").examples))


def test_an_update_that_lies_in_the_spool_uncommitted_is_offered_again_and_counts_once() -> None:
    world = World()
    world.begin_training("a", "b")
    world.offer("a")
    world.core.handle(on.UpdateReceived("a", offer("a")), world.now)  # and the process dies before Persist
    world.restart()
    world.upload("a")
    assert [r.device for r in world.records if isinstance(r, UpdateAccepted)] == ["a"]


def test_after_a_restart_the_cohort_has_time_to_be_heard() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.restart()
    world.wait(30.0)
    assert world.phase() is Phase.TRAINING, "we are not connected yet"
    world.tell(on.Connected())
    world.wait(LOST_AFTER_S - 1)
    assert world.phase() is Phase.TRAINING
    world.wait(1.0)
    assert world.phase() is Phase.AGGREGATING


def test_after_a_restart_a_heartbeat_alone_proves_life() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.restart()
    world.tell(on.Connected())
    world.live(2 * LOST_AFTER_S, "b")
    assert world.phase() is Phase.TRAINING


def test_an_invitation_that_a_crash_swallowed_is_sent_again() -> None:
    world = World(target=1)
    world.begin_training("a")
    world.born("b")
    world.died("a")
    world.restart()
    world.tell(on.Connected())
    world.born("b")
    assert world.invited() == ["b"]


def test_aggregation_is_asked_for_again() -> None:
    world = World()
    world.begin_training("b", "a")
    world.upload("b", "a")
    asked = world.all(do.Aggregate)
    assert world.restart() == asked


def test_evaluation_is_asked_for_again() -> None:
    world = World()
    world.begin_evaluating("a")
    assert world.restart() == [do.Evaluate(RUN, 1, TASK, theta(1))]
    assert world.tell(on.Connected()) == [do.PublishBlobs(RUN, (PROGRAM, theta(1)))]


def test_after_a_restart_the_devices_are_asked_before_the_round_ends() -> None:
    world = World()
    world.begin_evaluating("a")
    world.restart()
    world.evaluated()
    assert world.phase() is Phase.EVALUATING, "nobody could hear of the new model yet"
    world.tell(on.Connected())
    world.born("a")
    world.published()
    world.report("a")
    assert world.number == 2


def test_reports_outlive_a_restart() -> None:
    world = World()
    world.begin_evaluating("a", "b")
    world.report("a")
    world.restart()
    world.report("a")
    assert world.rejected() == "this device reported before"


def test_a_paused_run_stays_paused() -> None:
    world = World()
    world.begin_training("a")
    world.now += 40.0
    world.tell(on.Tick(), on.PauseRun())
    world.restart()
    assert (world.paused(), world.core.seconds_left) == ("paused by an operator", 60.0)
    assert world.core.next_deadline() is None


def test_a_finished_run_is_cleared_from_the_broker_by_the_next_process() -> None:
    world = World()
    world.begin_training("a")
    world.tell(on.StopRun())
    assert world.restart() == []
    assert world.tell(on.Connected()) == [do.Announce(None), do.RetractBlobs(())]


def test_what_another_session_accepted_is_known_to_the_ledger_after_the_round() -> None:
    world = World()
    world.begin_training("a")
    world.upload("a")
    world.restart()
    assert world.offer("a") == [do.AnswerFromLedger("a", offer("a"))]
    transfer = offer("a").update.transfer
    assert world.ledger.answer(RUN, 1, "a", transfer).outcome is ReceiptOutcome.ACCEPTED


@pytest.mark.parametrize("at", [0.0, 3.25, 1e6])
def test_a_snapshot_restored_gives_the_same_snapshot(at: float) -> None:
    world = World(deadline_s=64.0)
    world.begin_training("a", "b")
    world.upload("a")
    snapshot = world.core.snapshot()
    assert Coordinator.restore(snapshot, HEARTBEAT_S, at).snapshot() == snapshot
