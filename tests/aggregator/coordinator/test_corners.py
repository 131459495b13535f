"""What no ordinary course of a round meets."""

from aggregator.coordinator import events as on
from aggregator.coordinator.phases import Phase
from aggregator.records import Reported
from broker.messages import Report
from tests.aggregator.coordinator.world import LOST_AFTER_S, RUN, World


def test_what_was_evaluated_before_a_restart_is_not_evaluated_again() -> None:
    world = World()
    world.begin_evaluating("a", "b")
    world.evaluated()
    world.report("a")
    assert world.phase() is Phase.EVALUATING
    assert world.restart() == []
    world.tell(on.Connected())
    world.born("b")
    world.published()
    world.report("b")
    assert world.number == 2


def test_a_report_that_says_nothing_changes_nothing() -> None:
    world = World()
    world.begin_evaluating("a")
    assert world.tell(on.DeviceReport("a", Report(run=RUN, round=1))) == []
    world.report("a")
    assert [report.device for report in world.noted(Reported)] == ["a"]


def test_a_report_between_rounds_is_of_no_round() -> None:
    world = World()
    world.begin_waiting()
    world.tell(on.DeviceReport("a", Report(run=RUN, round=1)))
    assert world.rejected() == "no round is open"


def test_a_loop_that_came_late_while_we_were_cut_off_does_not_make_silence_count() -> None:
    world = World(deadline_s=20.0)
    world.begin_training("a", "b")
    world.tell(on.Disconnected())
    world.now += 5 * LOST_AFTER_S
    world.tell(on.Tick())
    world.now += LOST_AFTER_S + 1
    world.tell(on.Connected())
    assert world.core.fleet.alive("a", world.now + LOST_AFTER_S - 1)
    assert not world.core.fleet.alive("a", world.now + LOST_AFTER_S + 1)
