import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.phases import Phase
from aggregator.records import Transition
from broker.messages import AssignmentPhase
from tests.aggregator.coordinator.world import RUN, World


def paused_in_training(*devices: str) -> World:
    """Paused 40 s into the 100 s of round 1."""
    world = World()
    world.begin_training(*devices)
    world.live(40.0, *devices)
    world.tell(on.PauseRun())
    return world


def test_a_pause_stops_the_clock() -> None:
    world = paused_in_training("a", "b")
    assert world.noted(Transition) == [Transition(RUN, 1, "training", "paused", "paused by an operator")]
    assert world.core.next_deadline() is None
    assert world.core.seconds_left == 60.0
    world.wait(1000.0)
    world.tell(on.Tick())
    assert (world.phase(), world.core.seconds_left) == (Phase.TRAINING, 60.0)


def test_a_pause_is_announced_without_expiry() -> None:
    world = paused_in_training("a", "b")
    (announce,) = world.all(do.Announce)
    assert announce.assignment is not None
    assert announce.assignment.phase is AssignmentPhase.PAUSED
    assert announce.assignment.cohort == ("a", "b")
    assert announce.expiry_s is None


def test_uploads_are_taken_while_paused() -> None:
    world = paused_in_training("a", "b")
    world.upload("a", "b")
    assert world.receipts() == [("a", "accepted", None), ("b", "accepted", None)]
    assert world.phase() is Phase.TRAINING, "nothing begins before the run goes on"
    world.tell(on.ResumeRun())
    assert world.phase() is Phase.AGGREGATING


def test_nobody_is_lost_or_replaced_while_paused() -> None:
    world = paused_in_training("a", "b")
    world.born("c")
    world.died("a")
    assert world.invited() == []
    world.tell(on.ResumeRun())
    assert world.invited() == ["c"]


def test_a_resumed_run_goes_on_with_the_time_that_was_left() -> None:
    world = paused_in_training("a", "b")
    world.live(500.0, "a", "b")
    world.tell(on.ResumeRun())
    assert world.noted(Transition) == [Transition(RUN, 1, "paused", "training", "resumed")]
    (announce,) = world.all(do.Announce)
    assert announce.expiry_s == 60.0
    assert announce.assignment is not None
    assert announce.assignment.phase is AssignmentPhase.TRAINING
    world.upload("a")
    world.live(59.0, "a", "b")
    assert world.phase() is Phase.TRAINING
    world.wait(1.0)
    assert world.phase() is Phase.AGGREGATING


def test_a_run_is_paused_once_and_resumed_once() -> None:
    world = paused_in_training("a")
    world.tell(on.PauseRun())
    assert world.rejected() == f"run {RUN} is paused already"
    world.tell(on.ResumeRun())
    world.tell(on.ResumeRun())
    assert world.rejected() == f"run {RUN} is not paused"


def test_a_paused_run_opens_no_round() -> None:
    world = World()
    world.begin_waiting()
    world.tell(on.PauseRun())
    world.born("a")
    assert world.phase() is Phase.WAITING
    world.tell(on.ResumeRun())
    assert world.phase() is Phase.TRAINING


def test_a_run_paused_while_it_is_prepared_waits_when_it_is_built() -> None:
    world = World()
    world.tell(on.Connected())
    world.born("a")
    world.start()
    world.tell(on.PauseRun())
    world.prepared()
    world.published()
    assert world.phase() is Phase.WAITING
    world.tell(on.ResumeRun())
    assert world.phase() is Phase.TRAINING


def test_a_round_paused_while_it_is_aggregated_is_evaluated_when_it_goes_on() -> None:
    world = World()
    world.begin_training("a")
    world.upload("a")
    world.tell(on.PauseRun())
    world.aggregated()
    assert world.core.next_deadline() is None
    assert world.core.seconds_left == world.settings.evaluation_deadline_s
    world.published()
    assert world.asks() is AssignmentPhase.PAUSED
    world.evaluated()
    assert world.phase() is Phase.EVALUATING
    world.tell(on.ResumeRun())
    assert world.asks() is AssignmentPhase.EVALUATING
    world.report("a")
    assert world.number == 2


def test_a_pause_outlives_a_broken_connection() -> None:
    world = paused_in_training("a")
    world.tell(on.Disconnected(), on.Connected())
    world.published()
    (announce,) = world.all(do.Announce)
    assert announce.expiry_s is None
    assert announce.assignment is not None
    assert announce.assignment.phase is AssignmentPhase.PAUSED


@pytest.mark.parametrize("phase", [Phase.TRAINING, Phase.EVALUATING])
def test_a_paused_run_can_be_stopped(phase: Phase) -> None:
    world = World()
    if phase is Phase.TRAINING:
        world.begin_training("a")
    else:
        world.begin_evaluating("a")
    world.tell(on.PauseRun())
    world.tell(on.StopRun())
    assert world.core.run is None
    assert world.announced is None
