import math

import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.fitness import judged
from aggregator.coordinator.phases import Decision, Phase
from aggregator.records import Decided, UpdateAccepted, UpdateLost
from broker.messages import AgentState, RejectReason
from broker.needs import Obstacle
from broker.sealing import sealed_size
from tests.aggregator.coordinator.world import PARAMETERS, RUN, World, at_work, offer, theta


def closed_without(device: str = "c", **settings: object) -> World:
    """Round 1 closed at its target; one of a, b and c still works on its update."""
    world = World(**{"late": "carry", "target": 2, "over_selection": 1.5, "rounds": 9} | settings)
    world.begin_training("a", "b", "c")
    assert world.announced is not None
    assert world.announced.carries == (settings.get("late") != "discard")
    world.tell(on.DeviceHeartbeat(device, at_work(device, AgentState.TRAINING, 0.5)))
    world.upload(*sorted({"a", "b", "c"} - {device}))
    assert world.phase() is Phase.AGGREGATING
    return world


def next_round(world: World) -> None:
    world.aggregated()
    world.published()
    for device in ("a", "b", "c"):
        world.report(device)
    world.evaluated()
    assert world.phase() is Phase.TRAINING


def carried(world: World) -> tuple[do.CarriedUpdate, ...]:
    (aggregate,) = world.all(do.Aggregate)
    return aggregate.carried


def late_upload(world: World, device: str = "c", number: int = 1) -> None:
    update = offer(device, number)
    assert world.tell(on.UpdateOffered(device, update)) == [do.Admit(device, update)]
    world.tell(on.UpdateReceived(device, update))


def decisions(world: World) -> list[tuple[int, str | None, str]]:
    return [(r.round, r.device, r.decision) for r in world.records if isinstance(r, Decided)]


def test_a_late_update_is_discarded_unless_told_otherwise() -> None:
    world = closed_without("c", late="discard")
    assert world.all(do.DropUploads) == [do.DropUploads(RUN, 1)]
    assert world.tell(on.UpdateOffered("c", offer("c"))) == [do.AnswerFromLedger("c", offer("c"))]


@pytest.mark.parametrize("opened", [False, True], ids=["before the next round", "in the next round"])
def test_a_late_update_counts_once_in_the_next_round_with_less_weight(opened: bool) -> None:  # noqa: FBT001
    world = closed_without("c")
    assert world.all(do.DropUploads) == []
    if opened:
        next_round(world)
    late_upload(world)
    assert world.receipts() == [("c", "accepted", None)]
    assert len(world.noted(UpdateAccepted)) == 1
    assert decisions(world) == [(1, "c", Decision.CARRIES)]
    if not opened:
        next_round(world)
    world.upload(*world.cohort[:2])
    (one,) = carried(world)
    assert (one.device, one.round, one.examples) == ("c", 1, offer("c").examples)
    assert one.weight == pytest.approx(1 / math.sqrt(2))
    assert world.all(do.DropUploads) == [do.DropUploads(RUN, 1)], "now it is too late for the first round"
    next_round(world)
    world.upload(*world.cohort[:2])
    assert carried(world) == ()


def test_a_late_update_is_accepted_again_and_counted_once() -> None:
    world = closed_without("c")
    late_upload(world)
    assert world.tell(on.UpdateReceived("c", offer("c"))) == [do.AnswerFromLedger("c", offer("c"))]
    assert world.tell(on.UpdateOffered("c", offer("c"))) == [do.AnswerFromLedger("c", offer("c"))]
    assert world.ledger.answer(RUN, 1, "c", offer("c").update.transfer).outcome == "accepted"


def test_an_update_that_is_later_still_is_too_late() -> None:
    world = closed_without("c")
    next_round(world)
    world.upload(*world.cohort[:2])
    assert world.tell(on.UpdateOffered("c", offer("c", 1))) == [do.AnswerFromLedger("c", offer("c", 1))]


def test_a_late_update_outlives_a_crash_at_any_time_and_counts_once() -> None:
    world = closed_without("c")
    late_upload(world)
    world.restart()
    world.tell(on.Connected())
    assert world.run.spooled == {1}
    world.born("a", "b")
    next_round(world)
    assert world.run.spooled == {1, 2}
    world.upload(*world.cohort[:2])
    before = carried(world)
    world.restart()
    assert carried(world) == before
    assert len(before) == 1


def test_what_an_abandoned_round_accepted_counts_in_full_in_the_next_one() -> None:
    world = World(late="carry", quorum=2, rounds=9, deadline_s=20.0)
    world.begin_training("a", "b")
    world.upload("a")
    world.live(20.0, "a", "b")
    assert (world.number, world.phase()) == (2, Phase.TRAINING)
    world.upload("a", "b")
    assert [(one.device, one.round, one.weight) for one in carried(world)] == [("a", 1, 1.0)]


def test_a_late_update_that_cannot_be_used_is_rejected_for_good() -> None:
    world = closed_without("c")
    world.tell(on.UpdateOffered("c", offer("c", size=sealed_size(4 * PARAMETERS + 8192) + 1)))
    assert world.receipts() == [("c", "rejected", "too-large")]
    world = closed_without("c")
    world.tell(on.UpdateRejected("c", offer("c"), RejectReason.NORM))
    assert world.receipts() == [("c", "rejected", "norm-too-large")]
    assert world.tell(on.UpdateReceived("c", offer("c"))) == [do.AnswerFromLedger("c", offer("c"))]
    assert decisions(world) == []


def test_after_the_last_round_nothing_is_carried() -> None:
    world = World(late="carry", target=2, over_selection=1.5, rounds=1)
    world.begin_training("a", "b", "c")
    assert world.announced is not None
    assert not world.announced.carries
    world.upload("a", "b")
    assert world.all(do.DropUploads) == [do.DropUploads(RUN, 1)]


def test_a_run_that_is_stopped_says_what_it_gives_up() -> None:
    world = closed_without("c")
    late_upload(world)
    world.tell(on.StopRun())
    assert decisions(world)[-1] == (1, "c", Decision.DROPS)


def test_late_updates_of_a_round_that_cannot_be_aggregated_are_given_up() -> None:
    world = closed_without("c")
    late_upload(world)
    next_round(world)
    world.upload(*world.cohort[:2])
    world.tell(on.AggregationFailed(RUN, 2, "not finite"))
    assert decisions(world)[-1] == (1, "c", Decision.DROPS)
    world.upload(*world.cohort[:2])
    assert carried(world) == ()


def test_who_still_works_on_its_late_update_is_not_asked_for_another() -> None:
    world = closed_without("c")
    next_round(world)
    assert world.cohort == ["a", "b"]
    found = judged(world.core.fleet, world.run, world.now)["c"]
    assert found is not None
    assert found.obstacle is Obstacle.BUSY
    late_upload(world)
    world.beat("c")
    world.died("a")
    assert world.invited() == ["c"]


def test_a_round_opens_as_soon_as_who_is_needed_is_free_again() -> None:
    world = closed_without("c")
    world.aggregated()
    world.published()
    world.report("a")
    world.report("b")
    world.died("a", "b")
    world.evaluated()
    assert world.phase() is Phase.WAITING
    late_upload(world)
    world.beat("c")
    assert (world.phase(), world.cohort) == (Phase.TRAINING, ["c"])


@pytest.mark.parametrize("aggregating", [False, True], ids=["before its round", "while it is aggregated"])
def test_a_damaged_carried_update_is_given_up_and_the_others_count(aggregating: bool) -> None:  # noqa: FBT001
    world = closed_without("c")
    late_upload(world)
    next_round(world)
    if aggregating:
        world.upload(*world.cohort[:2])
    world.restart()
    lost = offer("c").update.digest
    world.tell(on.UpdateDamaged(1, "c", lost))
    assert world.noted(UpdateLost) == [UpdateLost(RUN, 1, "c", lost)]
    assert decisions(world)[-1] == (1, "c", Decision.DROPS)
    if aggregating:
        world.tell(on.Restored())
    else:
        world.tell(on.Connected())
        world.published()
        world.born("a", "b")
        world.upload(*world.cohort[:2])
    assert carried(world) == ()


def test_what_a_round_was_to_carry_is_not_lost_with_the_round() -> None:
    world = closed_without("c", quorum=2)
    late_upload(world)
    next_round(world)
    first, second = world.cohort[:2]
    world.upload(first, second)
    world.restart()
    world.tell(on.UpdateDamaged(2, first, offer(first, 2).update.digest))
    assert world.phase() is Phase.WAITING
    assert [(one.device, one.round) for one in world.run.carried] == [("c", 1), (second, 2)]


def test_what_was_trained_from_a_lost_model_is_given_up_with_it() -> None:
    world = closed_without("c")
    next_round(world)
    late_upload(world)
    world.restart()
    world.tell(on.ModelDamaged("round 1 is damaged", theta(0), lost_rounds=1))
    assert (world.run.carried, world.run.late, world.run.completed) == ([], None, 0)
    assert decisions(world)[-1] == (1, "c", Decision.DROPS)
    assert world.run.spooled == set()
