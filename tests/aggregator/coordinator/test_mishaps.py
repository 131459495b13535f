import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.phases import Phase
from aggregator.records import RoundClosed, Transition, UpdateLost
from tests.aggregator.coordinator.world import PROGRAM, RUN, World, offer, theta

FULL = on.DiskFilled("the disk is full")


def in_training(*devices: str, **settings: object) -> World:
    world = World(**settings)
    world.begin_training(*devices)
    return world


def damaged(device: str) -> on.UpdateDamaged:
    return on.UpdateDamaged(1, device, offer(device).update.digest)


def asked_again(world: World) -> list[tuple[str, bool]]:
    return [(e.device, getattr(e.message, "again", False)) for e in world.all(do.Send)]


def test_a_full_disk_pauses_the_run_and_room_lets_it_go_on_with_the_time_that_was_left() -> None:
    world = in_training("a", "b")
    world.live(40.0, "a", "b")
    world.tell(FULL)
    assert world.noted(Transition) == [Transition(RUN, 1, "training", "paused", "the disk is full")]
    world.live(500.0, "a", "b")
    assert (world.paused(), world.core.seconds_left) == ("the disk is full", 60.0)
    world.tell(on.DiskHasRoom())
    assert (world.paused(), world.core.seconds_left) == (None, 60.0)


def test_what_an_operator_paused_does_not_go_on_because_there_is_room() -> None:
    world = in_training("a", "b")
    world.tell(on.PauseRun())
    world.tell(FULL)
    assert "paused already" in world.rejected()
    world.tell(on.DiskHasRoom())
    assert "does not wait for the disk" in world.rejected()


def test_an_operator_may_let_it_go_on_before_there_is_room() -> None:
    world = in_training("a", "b")
    world.tell(FULL)
    world.tell(on.ResumeRun())
    world.tell(on.DiskHasRoom())
    assert world.rejected()
    assert world.paused() is None


def test_a_restart_still_waits_for_the_disk() -> None:
    world = in_training("a", "b")
    world.tell(FULL)
    world.restart()
    assert world.run.waits_for_disk
    world.tell(on.Connected())
    world.published()
    world.tell(on.DiskHasRoom())
    assert world.paused() is None


def test_without_a_run_a_full_disk_is_nobodys_pause() -> None:
    world = World()
    for event in (FULL, on.DiskHasRoom(), on.ModelDamaged("gone", None), on.UpdateDamaged(1, "a", "0" * 64)):
        world.tell(event)
        assert world.rejected()


def test_a_damaged_update_counts_no_more_and_its_device_is_asked_again() -> None:
    world = in_training("a", "b")
    world.upload("a")
    world.restart()
    world.tell(damaged("a"))
    assert world.noted(UpdateLost) == [UpdateLost(RUN, 1, "a", offer("a").update.digest)]
    world.tell(on.Connected())
    world.born("a")
    assert asked_again(world) == [("a", True)]
    world.published()
    world.upload("a", "b")
    assert world.phase() is Phase.AGGREGATING
    (aggregate,) = world.all(do.Aggregate)
    assert [device for device, _ in aggregate.updates] == ["a", "b"]


def test_a_device_whose_receipt_was_lost_offers_a_damaged_update_again() -> None:
    world = in_training("a", "b")
    world.upload("a")
    world.restart()
    world.tell(damaged("a"))
    assert world.offer("a") == [do.Admit("a", offer("a"))]
    world.tell(on.UpdateReceived("a", offer("a")))
    assert world.receipts() == [("a", "accepted", None)]


def test_an_update_that_does_not_count_cannot_be_damaged() -> None:
    world = in_training("a", "b")
    world.tell(damaged("a"))
    assert "counts in round 1" in world.rejected()


@pytest.mark.parametrize(("quorum", "phase"), [(1, Phase.AGGREGATING), (2, Phase.WAITING)])
def test_a_round_that_takes_no_more_updates_goes_on_without_it_or_is_abandoned(
    quorum: int, phase: Phase
) -> None:
    world = in_training("a", "b", quorum=quorum)
    world.upload("a", "b")
    world.restart()
    world.tell(damaged("a"))
    assert world.phase() is phase
    world.tell(on.Restored())
    updates = [[device for device, _ in effect.updates] for effect in world.all(do.Aggregate)]
    assert updates == ([["b"]] if phase is Phase.AGGREGATING else [])


def test_a_damaged_model_falls_back_and_its_round_is_abandoned() -> None:
    world = World(rounds=5)
    world.begin_evaluating("a", "b")
    world.restart()
    world.tell(on.ModelDamaged("the model of round 1 is damaged", theta(0)))
    (closed,) = world.noted(RoundClosed)
    assert (closed.outcome, closed.theta) == ("abandoned", theta(0))
    assert world.phase() is Phase.WAITING
    assert world.tell(on.Connected()) == [do.PublishBlobs(RUN, (PROGRAM, theta(0)))]


def test_a_damaged_model_between_rounds_falls_back() -> None:
    world = World()
    world.begin_waiting()
    world.restart()
    world.tell(on.ModelDamaged("damaged", theta(0)))
    assert world.all(do.WriteHistory) == [do.WriteHistory(RUN)]
    assert world.paused() is None


def test_rounds_whose_work_is_lost_are_done_again() -> None:
    world = World(rounds=2)
    world.begin_evaluating("a", "b")
    world.evaluated()
    world.report("a")
    world.report("b")
    assert world.run.completed == 1
    world.restart()
    world.tell(on.ModelDamaged("damaged", theta(0), lost_rounds=1))
    assert world.run.completed == 0
    world.tell(on.ModelDamaged("damaged", theta(0), lost_rounds=1))
    assert world.run.completed == 0


def test_without_any_sound_model_the_run_pauses_and_publishes_again_when_resumed() -> None:
    world = in_training("a", "b")
    world.restart()
    world.tell(on.ModelDamaged("restore the file", None))
    assert world.paused() == "restore the file"
    world.tell(on.ModelDamaged("restore the file", None))
    assert world.paused() == "restore the file"
    world.tell(on.ResumeRun())
    assert world.all(do.PublishBlobs) == [do.PublishBlobs(RUN, (PROGRAM, theta(0)))]


def test_a_run_without_a_model_has_none_to_damage() -> None:
    world = World()
    world.start()
    world.tell(on.ModelDamaged("gone", None))
    assert "no model yet" in world.rejected()
