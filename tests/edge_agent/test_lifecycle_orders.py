"""What the agent makes of the aggregator's orders: whose round it is, what is news, what is dropped."""

import pytest

from broker import topics
from broker.messages import Assignment, DeclineReason, Invite, TrainingSettings
from edge_agent import effects, events
from edge_agent.seeds import derive_seed
from edge_agent.snapshot import RoundKey, Snapshot
from tests.edge_agent.agent_world import (
    DEVICE,
    LATER,
    NEW_THETA,
    OURS,
    PENDING,
    PROGRAM,
    THETA,
    World,
    announcement,
    assignment,
    federation,
    receipt,
    trained,
)


def test_an_announced_round_is_fetched_trained_persisted_and_only_then_offered(world: World) -> None:
    world.tell(events.Connected(OURS), federation(), announcement(1, assignment()))
    assert world.all(effects.Fetch) == [effects.Fetch((PROGRAM, THETA))]
    world.tell(events.Fetched(PROGRAM.digest))
    assert (world.state(), world.all(effects.Train)) == ("fetching", [])
    world.tell(events.Fetched(THETA.digest))
    settings = TrainingSettings(seed=derive_seed(3, 1, DEVICE))
    assert world.all(effects.Train) == [effects.Train(1, assignment(), settings)]
    world.tell(trained(1))
    kept = Snapshot(session=10, sequence=1, trained=RoundKey("run-a", 1), pending=PENDING)
    assert world.effects[0] == effects.Persist(kept)
    assert world.said(topics.OFFER) == [PENDING]
    assert world.state() == "uploading"


def test_the_seed_differs_by_round_and_device_and_fits_the_settings() -> None:
    seeds = {derive_seed(s, r, d) for s in (0, 1) for r in (1, 2) for d in ("pi-1", "pi-2")}
    assert len(seeds) == 8
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    # The device is told apart from the round, and the value is the same for ever.
    assert derive_seed(1, 11, "a") != derive_seed(1, 1, "1a")
    assert derive_seed(3, 1, "pi-1") == 162163401187900413


def test_a_round_for_others_is_left_to_them_until_we_are_invited(world: World) -> None:
    others = assignment(cohort=("pi-2",))
    world.tell(events.Connected(OURS), announcement(1, others))
    assert world.state() == "idle"
    world.tell(Invite(run="run-a", round=2))
    assert [type(effect) for effect in world.effects] == [effects.Reject]
    world.tell(Invite(run="run-a", round=1))
    assert world.state() == "fetching"


def test_an_accepted_update_that_got_damaged_there_is_trained_again(world: World) -> None:
    world.begin_uploading()
    world.tell(Invite(run="run-a", round=1, again=True))
    assert world.state() == "uploading", "we still have it: the next offer brings it"
    world.tell(receipt("accepted"))
    assert world.state() == "idle"
    world.tell(Invite(run="run-a", round=1))
    assert world.state() == "idle", "invited, but it is done"
    world.tell(Invite(run="run-a", round=1, again=True))
    assert world.state() == "fetching"
    assert world.all(effects.Persist)[0].snapshot.trained is None


def test_a_cohort_that_names_us_is_ours(world: World) -> None:
    world.tell(announcement(1, assignment(cohort=("pi-2", DEVICE))))
    assert world.state() == "fetching"


def test_a_round_is_trained_once(world: World) -> None:
    world.begin_uploading()
    world.tell(receipt("rejected"), announcement(2, assignment()))
    assert world.state() == "idle"
    assert world.all(effects.Fetch) == []


@pytest.mark.parametrize(
    ("session", "sequence"), [(10, 5), (10, 4), (9, 99)], ids=["same", "older", "older session"]
)
def test_stale_announcements_change_nothing(world: World, session: int, sequence: int) -> None:
    world.tell(events.Connected(OURS), announcement(5, None))
    world.tell(announcement(sequence, assignment(), session))
    assert [type(effect) for effect in world.effects] == [effects.Reject]


def test_a_lower_session_is_stale_once_a_higher_one_announced_a_round(world: World) -> None:
    world.tell(announcement(4, None))
    assert world.effects == [effects.Persist(Snapshot(session=10, sequence=4))]
    assert isinstance(world.tell(federation(9))[0], effects.Reject)
    assert world.tell(federation(10)) == []
    world.tell(announcement(0, None, session=11))
    assert world.core.snapshot() == Snapshot(session=11, sequence=0)
    assert isinstance(world.tell(federation(10))[0], effects.Reject)


def test_who_aggregates_is_not_signed_and_can_make_no_announcement_stale(world: World) -> None:
    world.tell(events.Connected(OURS), announcement(3, None))
    assert world.tell(federation(99)) == []
    world.tell(announcement(4, assignment()))
    assert world.state() == "fetching"


def test_announcements_that_bring_no_work_to_an_end_cost_no_write(world: World) -> None:
    world.begin_training()
    for sequence in range(2, 6):
        world.tell(announcement(sequence, assignment()))
        assert world.all(effects.Persist) == []


def restarted(world: World) -> World:
    """The same device after a power cut, connected."""
    again = World(world.core.snapshot())
    again.tell(events.Connected(LATER))
    return again


@pytest.mark.parametrize("sequence", [0, 1, 2], ids=["older", "dropped", "while it worked"])
def test_dropped_work_does_not_come_back_with_an_old_announcement_after_a_restart(sequence: int) -> None:
    world = World()
    world.begin_training()
    world.tell(announcement(2, assignment()), announcement(3, None))
    again = restarted(world)
    again.tell(announcement(sequence, assignment()))
    assert [type(effect) for effect in again.effects] == [effects.Reject]


def test_declined_work_does_not_come_back_with_an_old_announcement_after_a_restart(world: World) -> None:
    world.begin_training()
    world.tell(announcement(2, assignment()), events.TrainingFailed(1, DeclineReason.DATA, "empty"))
    again = restarted(world)
    again.tell(announcement(1, assignment()))
    assert [type(effect) for effect in again.effects] == [effects.Reject]


def test_done_work_does_not_come_back_with_an_old_announcement_after_a_restart(world: World) -> None:
    world.begin_uploading()
    world.tell(receipt(), announcement(2, assignment(2)))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))
    world.tell(trained(world.job()), receipt(round_number=2))
    again = restarted(world)
    again.tell(announcement(1, assignment(1)))
    assert [type(effect) for effect in again.effects] == [effects.Reject]


def test_the_newest_announcement_is_taken_again_after_a_restart_and_once(world: World) -> None:
    world.begin_training()
    world.tell(announcement(2, assignment(2)))
    again = restarted(world)
    again.tell(announcement(2, assignment(2)))
    assert again.state() == "fetching"
    again.tell(announcement(2, assignment(2)))
    assert [type(effect) for effect in again.effects] == [effects.Reject]


@pytest.mark.parametrize("next_one", [None, assignment(2), assignment(1, run="run-b")])
def test_newer_orders_stop_the_trainer_and_drop_its_work(world: World, next_one: None) -> None:
    job = world.begin_training()
    world.tell(announcement(2, next_one))
    assert world.all(effects.StopTraining) == [effects.StopTraining()]
    assert world.state() == ("fetching" if next_one else "idle")
    world.tell(trained(job))
    assert isinstance(world.effects[0], effects.Reject)


def test_newer_orders_stop_a_download(world: World) -> None:
    world.tell(announcement(1, assignment()), announcement(2, None))
    assert world.all(effects.StopFetching) == [effects.StopFetching()]


def test_the_same_round_said_again_lets_training_go_on(world: World) -> None:
    world.begin_training()
    world.tell(announcement(2, assignment(cohort=("pi-1", "pi-9"))))
    assert world.effects == []


def test_the_evaluation_of_a_round_ends_its_training(world: World) -> None:
    world.begin_training()
    world.tell(announcement(2, assignment(1, "evaluating")))
    assert world.all(effects.Fetch) == [effects.Fetch((PROGRAM, NEW_THETA))]
    assert world.all(effects.StopTraining)


def test_a_training_whose_update_may_come_late_goes_on_until_the_round_after_the_next(world: World) -> None:
    world.tell(events.Connected(OURS), federation(), announcement(1, assignment(1, carries=True)))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))
    job = world.job()
    later = [None, assignment(1, "evaluating", carries=True), None, assignment(2, carries=True)]
    for sequence, orders in enumerate(later, start=2):
        world.tell(announcement(sequence, orders))
        assert world.state() == "training"
    world.tell(trained(job))
    assert world.said(topics.OFFER)
    world.tell(receipt())
    assert world.state() == "fetching", "the next round is begun afterwards"


@pytest.mark.parametrize(
    "orders", [assignment(3), assignment(1, run="run-b")], ids=["the round after the next", "another run"]
)
def test_a_late_training_that_nobody_waits_for_any_more_is_dropped(world: World, orders: Assignment) -> None:
    world.tell(events.Connected(OURS), federation(), announcement(1, assignment(1, carries=True)))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))
    world.tell(announcement(2, orders))
    assert world.state() == "fetching"
    assert world.all(effects.StopTraining)


def test_a_pause_lets_training_end_and_starts_nothing(world: World) -> None:
    job = world.begin_training()
    world.tell(announcement(2, assignment(1, "paused")))
    assert world.state() == "training"
    world.tell(trained(job), receipt())
    assert world.state() == "idle"
    world.tell(announcement(3, assignment(2, "paused")))
    assert world.state() == "idle"
    world.tell(announcement(4, assignment(2)))
    assert world.state() == "fetching"
    world.tell(announcement(5, assignment(2, "paused")))
    assert world.state() == "idle"


def test_an_aggregator_of_an_older_session_is_a_warning_for_people(world: World) -> None:
    world.tell(announcement(1, None), federation(10), federation(9))
    (reject,) = world.all(effects.Reject)
    assert reject.warning
    assert "delete state.json" in reject.reason
    world.tell(announcement(1, None, session=9))
    assert not world.all(effects.Reject)[0].warning
