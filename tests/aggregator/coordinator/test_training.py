import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.context import Context
from aggregator.coordinator.phases import Phase
from aggregator.records import (
    Declined,
    Invited,
    RoundClosed,
    RoundOpened,
    Transition,
    UpdateAccepted,
    UpdateRefused,
)
from broker.messages import DeclineReason, Invite, Presence, Receipt, ReceiptOutcome, RejectReason, Report
from broker.sealing import sealed_size
from tests.aggregator.coordinator.world import (
    HEARTBEAT_S,
    LOST_AFTER_S,
    PROGRAM,
    RUN,
    World,
    birth,
    offer,
    theta,
)


def closed_because(world: World) -> str:
    """Why the last events closed the training of the round."""
    (transition,) = [r for r in world.noted(Transition) if r.target == Phase.AGGREGATING]
    return transition.reason


# -- a round opens -----------------------------------------------------------------------------------


def test_a_round_opens_when_enough_devices_live() -> None:
    world = World(min_devices=2)
    world.begin_waiting()
    assert world.all(do.Announce) == [do.Announce(None)]
    assert world.born("a") == []
    world.born("b")
    assert world.noted(RoundOpened) == [RoundOpened(RUN, 1, ("a", "b"), 2, 1)]
    (announce,) = world.all(do.Announce)
    assert announce.expiry_s == 100.0
    assert announce.assignment is not None
    assert announce.assignment.cohort == ("a", "b")
    assert (announce.assignment.round, announce.assignment.theta) == (1, theta(0))
    assert world.core.next_deadline() == world.now + HEARTBEAT_S, "the first look at who gets on"


@pytest.mark.parametrize("unfit", [birth("b", examples=0), birth("b", runtime="torch")])
def test_devices_without_examples_or_the_runtime_do_not_count(unfit: Presence) -> None:
    world = World(min_devices=2)
    world.begin_waiting()
    world.born("a")
    world.tell(on.DevicePresence("b", unfit))
    assert world.phase() is Phase.WAITING


def test_devices_heard_but_never_born_do_not_count() -> None:
    world = World()
    world.begin_waiting()
    world.beat("a")
    assert world.phase() is Phase.WAITING


def test_a_round_waits_for_as_many_devices_as_its_quorum_asks() -> None:
    world = World(quorum=3)
    world.begin_waiting()
    world.born("a", "b")
    assert world.phase() is Phase.WAITING
    world.born("c")
    assert world.noted(RoundOpened) == [RoundOpened(RUN, 1, ("a", "b", "c"), 3, 3)]


def test_a_late_joiner_is_in_the_next_round() -> None:
    world = World()
    world.begin_training("a")
    world.born("b")
    assert world.cohort == ["a"]
    world.upload("a")
    world.aggregated()
    world.published()
    world.report("a")
    world.report("b")
    world.evaluated()
    assert (world.number, world.cohort) == (2, ["a", "b"])


# -- it closes ---------------------------------------------------------------------------------------


def test_it_closes_at_the_target_and_aggregates_in_order_of_device() -> None:
    world = World(target=2, over_selection=1.5)
    world.begin_training("a", "b", "c")
    world.upload("c")
    effects = world.upload("a")
    assert closed_because(world) == "target reached"
    updates = (("a", offer("a").examples), ("c", offer("c").examples))
    receipt = Receipt(run=RUN, round=1, transfer=offer("a").update.transfer, outcome=ReceiptOutcome.ACCEPTED)
    assert effects[1:] == [
        do.Send("a", receipt),
        do.DropUploads(RUN, 1),
        do.Announce(None),
        do.Aggregate(RUN, 1, "fedavg", theta(0), updates),
    ]


def test_who_still_trains_when_it_closes_is_told_to_stop() -> None:
    world = World(target=1, over_selection=2)
    world.begin_training("a", "b")
    assert world.announced is not None
    world.upload("b")
    assert world.announced is None


def test_it_closes_when_heartbeats_stop_and_all_who_live_reported() -> None:
    world = World()
    world.begin_training("a", "b", "c")
    world.upload("a", "b")
    world.live(LOST_AFTER_S - 1, "a", "b")
    assert world.phase() is Phase.TRAINING
    world.wait(1.0)
    assert world.phase() is Phase.AGGREGATING
    assert closed_because(world) == "all live participants reported"
    assert world.now < 100.0


def test_it_closes_as_soon_as_the_will_of_the_last_one_arrives() -> None:
    world = World()
    world.begin_training("a", "b", "c")
    world.upload("a", "b")
    world.died("c")
    assert closed_because(world) == "all live participants reported"


def test_it_stays_open_when_all_who_live_reported_below_the_quorum() -> None:
    world = World(quorum=2)
    world.begin_training("a", "b", "c")
    world.upload("a")
    world.died("b", "c")
    assert world.phase() is Phase.TRAINING
    world.born("b", life=2)
    world.upload("b")
    assert closed_because(world) == "all live participants reported"


def test_it_closes_at_the_deadline_with_quorum() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.live(99.0, "a", "b")
    assert world.phase() is Phase.TRAINING
    world.wait(1.0)
    assert closed_because(world) == "deadline, with quorum"


def test_at_the_deadline_without_quorum_it_is_abandoned_and_the_model_stays() -> None:
    world = World(quorum=2)
    world.begin_training("a", "b", "c")
    world.upload("a")
    world.live(95.0, "a", "b", "c")
    world.wait(10.0)
    (closed,) = world.noted(RoundClosed)
    assert closed == RoundClosed(RUN, 1, "abandoned", "deadline with 1 of at least 2 updates", theta(0))
    assert world.all(do.DropUploads) == [do.DropUploads(RUN, 1)]
    (announce,) = world.all(do.Announce)
    assert announce.assignment is not None
    assert announce.assignment.round == 2, "the devices go on at once"
    assert do.WriteHistory(RUN) in world.effects


def test_a_round_after_an_abandoned_one_has_a_number_of_its_own() -> None:
    world = World()
    world.begin_training("a")
    world.live(101.0, "a")
    assert (world.phase(), world.number) == (Phase.TRAINING, 2)


def test_three_rounds_abandoned_in_a_row_pause_the_run() -> None:
    world = World(abandoned_limit=3)
    world.begin_training("a")
    world.live(299.0, "a")
    assert (world.number, world.paused()) == (3, None)
    world.live(1.0, "a")
    assert world.phase() is Phase.WAITING
    assert world.paused() == "3 rounds abandoned in a row; the last: deadline with 0 of at least 1 updates"
    assert world.announced is None
    world.live(200.0, "a")
    assert world.number == 3
    world.tell(on.ResumeRun())
    assert (world.phase(), world.number) == (Phase.TRAINING, 4)
    world.live(201.0, "a")
    assert (world.number, world.paused()) == (6, None)


def test_a_completed_round_ends_the_row_of_abandoned_ones() -> None:
    world = World(abandoned_limit=2)
    world.begin_training("a")
    world.live(100.0, "a")
    world.upload("a")
    world.aggregated()
    world.published()
    world.report("a")
    world.evaluated()
    world.live(101.0, "a")
    assert (world.number, world.paused()) == (4, None)


def test_a_strategy_that_fails_abandons_the_round() -> None:
    world = World()
    world.begin_training("a")
    world.upload("a")
    world.tell(on.AggregationFailed(RUN, 1, "not finite"))
    (closed,) = world.noted(RoundClosed)
    assert (closed.outcome, closed.reason, closed.theta) == ("abandoned", "not finite", theta(0))
    assert (world.number, world.run.round is not None) == (2, True)


def test_what_is_aggregated_of_another_round_is_not_taken() -> None:
    world = World()
    world.begin_training("a")
    world.upload("a")
    world.tell(on.Aggregated(RUN, 2, theta(2)))
    assert world.rejected() == "round 2 is not the open one"
    world.tell(on.AggregationFailed(RUN, 2, "other"))
    assert world.rejected() == "round 2 is not the open one"


# -- who is lost is replaced ---------------------------------------------------------------------------


def test_a_lost_device_is_replaced_by_invitation() -> None:
    world = World(target=2)
    world.begin_training("a", "b")
    world.born("c")
    assert world.invited() == []
    world.died("a")
    assert world.invited() == ["c"]
    assert world.noted(Invited) == [Invited(RUN, 1, "c")]
    assert world.cohort == ["a", "b", "c"]


def test_a_device_that_declines_is_replaced() -> None:
    world = World(target=2)
    world.begin_training("a", "b")
    world.born("c")
    declined = Report(run=RUN, round=1, declined=DeclineReason.DISK, detail="full")
    world.tell(on.DeviceReport("a", declined))
    assert world.noted(Declined) == [Declined(RUN, 1, "a", DeclineReason.DISK, "full")]
    assert world.invited() == ["c"]
    world.tell(on.DeviceReport("a", declined))
    assert world.rejected() == "this device owes no update"


def test_a_device_whose_update_was_refused_is_replaced() -> None:
    world = World(target=1)
    world.begin_training("a")
    world.born("b")
    world.offer("a")
    world.tell(on.UpdateRejected("a", offer("a"), RejectReason.NOT_FINITE))
    assert world.invited() == ["b"]


def test_who_was_over_selected_is_not_replaced() -> None:
    world = World(target=2, over_selection=1.5)
    world.begin_training("a", "b", "c")
    world.born("d")
    world.died("a")
    assert world.invited() == []
    world.died("b")
    assert world.invited() == ["d"]


def test_who_reported_already_is_not_replaced() -> None:
    world = World(target=3)
    world.begin_training("a", "b", "c")
    world.upload("a")
    world.born("d")
    assert world.invited() == []
    world.died("a")
    assert world.invited() == [], "its update counts"


def test_nobody_is_invited_twice() -> None:
    world = World(target=1)
    world.begin_training("a")
    world.born("b")
    world.died("a")
    assert world.invited() == ["b"]
    world.died("b")
    assert world.invited() == []


def test_an_invitation_is_repeated_on_the_birth_of_its_device() -> None:
    world = World(target=1)
    world.begin_training("a")
    world.born("b")
    world.died("a")
    world.born("b", life=2)
    assert world.effects == [do.Send("b", Invite(run=RUN, round=1))]
    world.born("a", life=2)
    assert world.invited() == [], "the cohort is in the announcement"


def test_an_invitation_is_not_repeated_after_its_answer() -> None:
    world = World(target=2)
    world.begin_training("a", "b")
    world.born("c")
    world.died("a")
    world.upload("c")
    world.born("c", life=2)
    assert world.invited() == []


def test_a_lost_device_that_is_heard_again_counts_again() -> None:
    world = World(target=2, quorum=2)
    world.begin_training("a", "b")
    world.live(LOST_AFTER_S, "b")
    world.upload("b")
    assert world.phase() is Phase.TRAINING, "below quorum"
    world.beat("a")
    world.upload("a")
    assert closed_because(world) == "target reached"


def test_the_update_of_a_lost_device_counts() -> None:
    world = World()
    world.begin_training("a", "b", "c")
    world.died("c")
    world.upload("c")
    assert world.receipts() == [("c", "accepted", None)]


def test_a_cohort_never_grows_beyond_what_an_announcement_can_name() -> None:
    world = World(target=4096, over_selection=10, federated_evaluation=False)
    names = [f"d{number}" for number in range(4200)]
    world.tell(on.Connected())
    for name in names:
        world.core.handle(on.DevicePresence(name, birth(name)), world.now)
    world.start()
    world.prepared()
    world.published()
    assert len(world.cohort) == 4096
    for name in world.cohort[:10]:
        world.core.handle(
            on.DevicePresence(name, birth(name).model_copy(update={"online": False})), world.now
        )
    assert len(world.cohort) == 4096


# -- whose update counts -----------------------------------------------------------------------------


def test_an_offer_is_admitted_and_counts_when_it_lies_in_the_spool() -> None:
    world = World()
    world.begin_training("a", "b", "c")
    update = offer("b")
    assert world.tell(on.UpdateOffered("b", update)) == [do.Admit("b", update)]
    receipt = Receipt(run=RUN, round=1, transfer=update.update.transfer, outcome=ReceiptOutcome.ACCEPTED)
    record = UpdateAccepted(
        RUN,
        1,
        "b",
        update.update.digest,
        4100,
        update.examples,
        update.metrics,
        update.validation,
        update.seconds,
    )
    assert world.tell(on.UpdateReceived("b", update)) == [
        do.Persist((record,), world.core.snapshot()),
        do.Send("b", receipt),
    ]


def test_an_offer_that_is_only_answered_costs_the_same_in_a_round_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.begin_training("a", "b", "c")
    core, looked = world.core, list[str]()

    def awaited(_: Context) -> set[str]:
        looked.append("every participant")
        return set()

    monkeypatch.setattr(Context, "awaited", awaited)
    assert core.handle(on.UpdateOffered("b", offer("b")), world.now) == [do.Admit("b", offer("b"))]
    assert not looked
    core.handle(on.UpdateReceived("b", offer("b")), world.now)
    assert looked


def test_an_offer_accepted_before_is_accepted_again_and_noted_once() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    for _ in range(2):
        world.offer("a")
        assert world.receipts() == [("a", "accepted", None)]
        assert world.noted(UpdateAccepted) == []


def test_a_device_that_lost_its_state_sends_a_duplicate() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.offer("a", version=1)
    assert world.receipts() == [("a", "duplicate", None)]
    world.tell(on.UpdateReceived("a", offer("a", version=1)))
    assert world.rejected() == "an update of this device was accepted before"
    world.tell(on.UpdateRejected("a", offer("a", version=1), RejectReason.DIGEST))
    assert world.rejected() == "an update of this device was accepted before"


def test_an_offer_refused_before_is_refused_again() -> None:
    world = World()
    world.begin_training("a", "b")
    world.offer("a")
    world.tell(on.UpdateRejected("a", offer("a"), RejectReason.NORM))
    refused = UpdateRefused(RUN, 1, "a", ReceiptOutcome.REJECTED, RejectReason.NORM)
    assert world.noted(UpdateRefused) == [refused]
    assert world.receipts() == [("a", "rejected", "norm-too-large")]
    world.offer("a", version=1)
    assert world.receipts() == [("a", "rejected", "norm-too-large")]
    assert world.noted(UpdateRefused) == []


def test_an_offer_larger_than_an_update_can_be_is_refused_unseen() -> None:
    world = World()
    world.begin_training("a", "b")
    largest = sealed_size(4 * 1000 + 8192)
    update = offer("a", size=largest)
    assert world.tell(on.UpdateOffered("a", update)) == [do.Admit("a", update)]
    world.tell(on.UpdateOffered("a", offer("a", size=largest + 1)))
    assert world.receipts() == [("a", "rejected", "too-large")]


def test_an_offer_of_a_device_outside_of_the_cohort_is_refused() -> None:
    world = World()
    world.begin_training("a")
    world.born("b")
    world.offer("b")
    assert world.receipts() == [("b", "rejected", "not-in-cohort")]


def test_an_update_of_a_device_outside_of_the_cohort_does_not_count() -> None:
    world = World()
    world.begin_training("a")
    world.tell(on.UpdateReceived("b", offer("b")))
    assert world.rejected() == "this device is not in the cohort"
    world.tell(on.UpdateRejected("b", offer("b"), RejectReason.DIGEST))
    assert world.rejected() == "this device is not in the cohort"


def test_a_device_may_decline_and_then_deliver_after_all() -> None:
    world = World()
    world.begin_training("a", "b")
    world.tell(on.DeviceReport("a", Report(run=RUN, round=1, declined=DeclineReason.DISK)))
    world.upload("a")
    assert world.receipts() == [("a", "accepted", None)]
    assert world.run.round is not None
    assert world.run.round.cohort["a"].declined is None


@pytest.mark.parametrize(("run", "number"), [("run-b", 1), (RUN, 2)])
def test_an_offer_for_another_run_or_round_is_answered_from_the_ledger(run: str, number: int) -> None:
    world = World()
    world.begin_training("a")
    update = offer("a", number, run=run)
    assert world.tell(on.UpdateOffered("a", update)) == [do.AnswerFromLedger("a", update)]
    assert world.tell(on.UpdateReceived("a", update)) == [do.AnswerFromLedger("a", update)]
    rejected = on.UpdateRejected("a", update, RejectReason.DIGEST)
    assert world.tell(rejected) == [do.AnswerFromLedger("a", update)]


def test_without_a_run_offers_are_answered_from_the_ledger() -> None:
    assert World().tell(on.UpdateOffered("a", offer("a"))) == [do.AnswerFromLedger("a", offer("a"))]


def test_what_arrives_after_the_round_closed_is_answered_from_the_ledger() -> None:
    world = World(target=1, over_selection=2)
    world.begin_training("a", "b")
    world.offer("b")
    world.upload("a")
    assert world.tell(on.UpdateReceived("b", offer("b"))) == [do.AnswerFromLedger("b", offer("b"))]
    assert world.offer("b") == [do.AnswerFromLedger("b", offer("b"))]
    transfer = offer("b").update.transfer
    assert world.ledger.answer(RUN, 1, "b", transfer).outcome is ReceiptOutcome.LATE


def test_a_new_theta_is_what_the_next_round_trains_from() -> None:
    world = World()
    world.begin_evaluating("a")
    world.report("a")
    world.evaluated()
    assert world.announced is not None
    assert (world.announced.round, world.announced.theta) == (2, theta(1))
    assert world.announced.program == PROGRAM


def test_training_seeds_differ_from_round_to_round() -> None:
    world = World()
    world.begin_training("a")
    assert world.announced is not None
    first = world.announced.settings
    world.live(101.0, "a")
    assert world.announced.settings == first.model_copy(update={"seed": world.announced.settings.seed})
    assert world.announced.settings.seed != first.seed
