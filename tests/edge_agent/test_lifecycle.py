from typing import cast, get_args

import pytest

from broker import topics
from broker.messages import (
    MAX_PROGRAM_BYTES,
    MAX_SPEEDS,
    AgentState,
    Announcement,
    Assignment,
    DeclineReason,
    Heartbeat,
    Invite,
    Offer,
    Presence,
    ReceiptOutcome,
    Report,
    TrainingSettings,
)
from edge_agent import effects, events
from edge_agent.events import FetchFault
from edge_agent.lifecycle import RULES
from edge_agent.presence import REMEMBERED_CONNECTIONS
from edge_agent.seeds import derive_seed
from edge_agent.snapshot import RoundKey, Snapshot
from edge_agent.transitions import TRANSITIONS
from tests.edge_agent.agent_world import (
    BIRTH,
    DEVICE,
    LATER,
    NEW_THETA,
    OTHER,
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

PENDING = Offer(
    run="run-a", round=1, update=UPDATE, examples=7, metrics={"loss": (3.5, 7.0)}, validation={}, seconds=1.5
)


@pytest.fixture
def world() -> World:
    return World()


def state(world: World) -> str:
    return world.core.state.value


# Rounds.


def test_an_announced_round_is_fetched_trained_persisted_and_only_then_offered(world: World) -> None:
    world.tell(events.Connected(OURS), federation(), announcement(1, assignment()))
    assert world.all(effects.Fetch) == [effects.Fetch((PROGRAM, THETA))]
    world.tell(events.Fetched(PROGRAM.digest))
    assert (state(world), world.all(effects.Train)) == ("fetching", [])
    world.tell(events.Fetched(THETA.digest))
    settings = TrainingSettings(seed=derive_seed(3, 1, DEVICE))
    assert world.all(effects.Train) == [effects.Train(1, assignment(), settings)]
    world.tell(trained(1))
    kept = Snapshot(session=10, sequence=1, trained=RoundKey("run-a", 1), pending=PENDING)
    assert world.effects[0] == effects.Persist(kept)
    assert world.said(topics.OFFER) == [PENDING]
    assert state(world) == "uploading"


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
    assert state(world) == "idle"
    world.tell(Invite(run="run-a", round=2))
    assert [type(effect) for effect in world.effects] == [effects.Reject]
    world.tell(Invite(run="run-a", round=1))
    assert state(world) == "fetching"


def test_an_accepted_update_that_got_damaged_there_is_trained_again(world: World) -> None:
    world.begin_uploading()
    world.tell(Invite(run="run-a", round=1, again=True))
    assert state(world) == "uploading", "we still have it: the next offer brings it"
    world.tell(receipt("accepted"))
    assert state(world) == "idle"
    world.tell(Invite(run="run-a", round=1))
    assert state(world) == "idle", "invited, but it is done"
    world.tell(Invite(run="run-a", round=1, again=True))
    assert state(world) == "fetching"
    assert world.all(effects.Persist)[0].snapshot.trained is None


def test_a_cohort_that_names_us_is_ours(world: World) -> None:
    world.tell(announcement(1, assignment(cohort=("pi-2", DEVICE))))
    assert state(world) == "fetching"


def test_a_round_is_trained_once(world: World) -> None:
    world.begin_uploading()
    world.tell(receipt("rejected"), announcement(2, assignment()))
    assert state(world) == "idle"
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
    assert state(world) == "fetching"


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
    assert state(again) == "fetching"
    again.tell(announcement(2, assignment(2)))
    assert [type(effect) for effect in again.effects] == [effects.Reject]


@pytest.mark.parametrize("next_one", [None, assignment(2), assignment(1, run="run-b")])
def test_newer_orders_stop_the_trainer_and_drop_its_work(world: World, next_one: None) -> None:
    job = world.begin_training()
    world.tell(announcement(2, next_one))
    assert world.all(effects.StopTraining) == [effects.StopTraining()]
    assert state(world) == ("fetching" if next_one else "idle")
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
        assert state(world) == "training"
    world.tell(trained(job))
    assert world.said(topics.OFFER)
    world.tell(receipt())
    assert state(world) == "fetching", "the next round is begun afterwards"


@pytest.mark.parametrize(
    "orders", [assignment(3), assignment(1, run="run-b")], ids=["the round after the next", "another run"]
)
def test_a_late_training_that_nobody_waits_for_any_more_is_dropped(world: World, orders: Assignment) -> None:
    world.tell(events.Connected(OURS), federation(), announcement(1, assignment(1, carries=True)))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))
    world.tell(announcement(2, orders))
    assert state(world) == "fetching"
    assert world.all(effects.StopTraining)


def test_a_pause_lets_training_end_and_starts_nothing(world: World) -> None:
    job = world.begin_training()
    world.tell(announcement(2, assignment(1, "paused")))
    assert state(world) == "training"
    world.tell(trained(job), receipt())
    assert state(world) == "idle"
    world.tell(announcement(3, assignment(2, "paused")))
    assert state(world) == "idle"
    world.tell(announcement(4, assignment(2)))
    assert state(world) == "fetching"
    world.tell(announcement(5, assignment(2, "paused")))
    assert state(world) == "idle"


# The pending update.


def test_an_offer_is_repeated_with_growing_jittered_waits_until_it_is_answered(world: World) -> None:
    world.begin_uploading()
    waits, last = [], world.now
    for _ in range(200):
        world.wait()
        if world.said(topics.OFFER):
            waits.append(world.now - last)
            last = world.now
    assert all(wait <= ceiling for wait, ceiling in zip(waits[:5], (1, 2, 4, 8, 16), strict=True))
    assert max(waits) <= 30
    assert max(waits) > 20
    assert len({round(wait, 6) for wait in waits}) == len(waits)
    world.tell(receipt())
    for _ in range(20):
        world.wait()
        assert world.said(topics.OFFER) == []


@pytest.mark.parametrize("outcome", list(ReceiptOutcome))
def test_any_receipt_is_final_persisted_and_deletes_the_update(world: World, outcome: ReceiptOutcome) -> None:
    world.begin_uploading()
    world.tell(receipt(outcome))
    kept = Snapshot(session=10, sequence=1, trained=RoundKey("run-a", 1))
    assert world.effects[0] == effects.Persist(kept)
    assert world.all(effects.DeleteUpdate) == [effects.DeleteUpdate(UPDATE.transfer)]
    assert state(world) == "idle"


def test_a_receipt_for_another_transfer_or_round_changes_nothing(world: World) -> None:
    world.begin_uploading()
    for wrong in (receipt(update=blob("9")), receipt(round_number=2)):
        assert isinstance(world.tell(wrong)[0], effects.Reject)


def test_nothing_is_trained_while_an_update_is_pending_but_its_offer_is_repeated(world: World) -> None:
    world.begin_uploading()
    world.tell(announcement(2, assignment(2)))
    assert world.said(topics.OFFER) == [PENDING]
    assert state(world) == "uploading"
    world.tell(receipt("late"))
    assert world.all(effects.Fetch) == [effects.Fetch((PROGRAM, THETA))]


def test_an_update_whose_run_is_gone_is_offered_until_it_is_answered(world: World) -> None:
    world.begin_uploading()
    world.tell(announcement(2, None))
    assert world.said(topics.OFFER) == [PENDING]
    world.tell(federation(20))
    world.wait()
    assert world.said(topics.OFFER) == [PENDING]
    world.tell(receipt("unknown-run"))
    assert state(world) == "idle"


def test_granted_chunks_are_sent_and_put_off_the_next_offer(world: World) -> None:
    world.begin_uploading()
    world.tell(grant((0, 2)))
    assert world.effects == [effects.SendChunks(UPDATE, (0, 2))]
    until = world.now + 30
    while world.now < until:
        world.wait()
    assert world.said(topics.OFFER) == [PENDING]


@pytest.mark.parametrize("wrong", [grant((3,)), grant((0,), blob("9")), grant((0,), round_number=2)])
def test_a_grant_for_what_we_do_not_have_changes_nothing(world: World, wrong: events.Event) -> None:
    world.begin_uploading()
    assert isinstance(world.tell(wrong)[0], effects.Reject)


def test_a_lost_update_is_declined_and_not_offered_any_more(world: World) -> None:
    world.begin_uploading()
    world.tell(events.UpdateLost(UPDATE.transfer, "disk gone"))
    assert world.said(topics.REPORT) == [
        Report(run="run-a", round=1, declined=DeclineReason.DISK, detail="disk gone")
    ]
    assert world.core.snapshot().pending is None


def test_a_restarted_agent_offers_what_it_had_and_knows_what_it_did() -> None:
    first = World()
    first.begin_uploading()
    kept = Snapshot.model_validate_json(first.core.snapshot().model_dump_json())
    assert kept == first.core.snapshot()
    world = World(kept)
    assert world.core.snapshot() == kept
    world.tell(events.Connected(LATER))
    assert world.said(topics.OFFER) == [PENDING]
    assert isinstance(world.tell(federation(9))[0], effects.Reject)
    world.tell(receipt(), announcement(1, assignment()))
    assert state(world) == "idle"


# Evaluation.


def test_an_evaluation_is_fetched_done_and_reported_once(world: World) -> None:
    world.tell(events.Connected(OURS), announcement(1, assignment(1, "evaluating")))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(NEW_THETA.digest))
    assert world.all(effects.Evaluate) == [effects.Evaluate(1, assignment(1, "evaluating"))]
    assert state(world) == "evaluating"
    world.tell(events.Evaluated(1, {"accuracy": (3.0, 4.0)}))
    report = Report(run="run-a", round=1, metrics={"accuracy": (3.0, 4.0)})
    assert world.said(topics.REPORT) == [report]
    kept = Snapshot(session=10, sequence=1, evaluated=RoundKey("run-a", 1), report=report)
    assert world.effects[0] == effects.Persist(kept)
    world.tell(announcement(2, assignment(1, "evaluating")))
    assert (state(world), world.said(topics.REPORT)) == ("idle", [])


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
    assert state(world) == "fetching"


def test_what_the_trainer_cannot_do_is_declined_with_its_reason(world: World) -> None:
    job = world.begin_training()
    world.tell(events.TrainingFailed(job, DeclineReason.CONTRACT, "x" * 1000))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert (report.declined, len(report.detail)) == (DeclineReason.CONTRACT, 300)
    assert state(world) == "idle"
    world.tell(announcement(2, assignment()), announcement(3, assignment(1, "evaluating")))
    assert state(world) == "idle"


def needy(round_number: int = 1, phase: str = "training", **needs: object) -> Announcement:
    """A round of a task with needs; the second announcement and those after it."""
    return announcement(1 + round_number, assignment(round_number, phase, needs=needs))


def test_the_speed_on_a_new_program_is_persisted_and_then_told_in_another_birth(world: World) -> None:
    job = world.begin_training()
    world.tell(events.SpeedMeasured(job, 12.5))
    kept = Snapshot(session=10, sequence=1, speeds={PROGRAM.digest: 12.5})
    birth = BIRTH.model_copy(update={"connection": OURS, "speeds": {PROGRAM.digest: 12.5}})
    assert world.effects == [effects.Persist(kept), effects.Publish(topics.PRESENCE, birth)]
    assert state(world) == "training"
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
    assert state(world) == "idle"


def test_a_device_known_to_be_too_slow_declines_before_it_fetches_anything() -> None:
    world = World(Snapshot(speeds={PROGRAM.digest: 12.0}))
    world.tell(events.Connected(OURS), needy(1, examples_per_s=50))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert report.declined is DeclineReason.NEEDS
    assert world.all(effects.Fetch) == []
    world.tell(needy(2, examples_per_s=12))
    assert state(world) == "fetching"


def test_a_round_that_is_evaluated_is_left_to_others_without_a_word_by_who_lacks_a_need(
    world: World,
) -> None:
    world.tell(events.Connected(OURS), needy(1, "evaluating", tags=("indoor",)))
    assert (state(world), world.said(topics.REPORT)) == ("idle", [])
    world.tell(announcement(3, assignment(2, "evaluating", runtime="torch")))
    assert (state(world), world.said(topics.REPORT)) == ("idle", [])
    world.tell(needy(3, "evaluating", examples=7))
    assert state(world) == "fetching"


def test_a_trainer_that_dies_is_tried_once_more_and_then_the_round_is_declined(world: World) -> None:
    job = world.begin_training()
    world.tell(events.TrainerDied(job, "SIGKILL"))
    retry = world.job()
    assert (retry != job, state(world)) == (True, "training")
    assert isinstance(world.tell(events.TrainerDied(job, "SIGKILL"))[0], effects.Reject)
    world.tell(events.TrainerDied(retry, "SIGKILL"))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert report.declined is DeclineReason.TRAINING_FAILED
    world.tell(announcement(2, assignment(2)))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))
    world.tell(events.TrainerDied(world.job(), "SIGKILL"))
    assert state(world) == "training"


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


# Connections.


def test_training_goes_on_while_disconnected_and_its_offer_goes_out_on_reconnect(world: World) -> None:
    job = world.begin_training()
    world.tell(events.Disconnected())
    assert world.effects == []
    world.tell(trained(job))
    assert world.all(effects.Publish) == []
    assert world.core.snapshot().pending == PENDING
    world.tell(events.Connected(LATER))
    assert [effect.branch for effect in world.all(effects.Publish)] == [
        topics.PRESENCE,
        topics.OFFER,
        topics.HEARTBEAT,
    ]


def test_every_connect_is_announced_by_a_birth_with_its_connection(world: World) -> None:
    world.tell(events.Connected(OURS))
    assert world.said(topics.PRESENCE) == [BIRTH.model_copy(update={"connection": OURS})]
    world.tell(events.Disconnected(), events.Connected(LATER))
    assert world.said(topics.PRESENCE) == [BIRTH.model_copy(update={"connection": LATER})]


def test_heartbeats_keep_the_federations_rhythm_and_tell_of_every_change_at_once(world: World) -> None:
    world.tell(events.Connected(OURS))
    assert world.core.next_deadline() == world.now + 5
    world.tell(federation(heartbeat_s=2))
    assert world.core.next_deadline() == world.now + 2
    world.tell(events.VitalsMeasured(1000, 50.5))
    job = world.begin_training()
    assert [cast("Heartbeat", said).state for said in world.said(topics.HEARTBEAT)] == [AgentState.TRAINING]
    world.tell(events.TrainingProgressed(job, 0.25, 12.0))
    assert world.effects == []
    world.wait()
    assert world.said(topics.HEARTBEAT) == [
        Heartbeat(
            connection=OURS,
            state=AgentState.TRAINING,
            run="run-a",
            round=1,
            progress=0.25,
            examples_per_s=12.0,
            memory_bytes=1000,
            temperature_c=50.5,
        )
    ]
    world.tell(events.Disconnected())
    assert world.core.next_deadline() is None


def presence(connection: str, *, online: bool, retained: bool = False) -> events.PresenceSeen:
    return events.PresenceSeen(Presence(online=online, connection=connection), retained)


def test_a_late_will_is_covered_by_the_birth_said_again(world: World) -> None:
    world.tell(events.Connected(OURS), events.Disconnected(), events.Connected(LATER))
    for death in (presence(OURS, online=False), presence(OTHER, online=False, retained=True)):
        world.tell(death)
        assert world.said(topics.PRESENCE) == [BIRTH.model_copy(update={"connection": LATER})]


def test_a_delayed_birth_of_our_own_is_no_other_machine(world: World) -> None:
    world.tell(events.Connected(OURS), events.Disconnected(), events.Connected(LATER))
    world.tell(presence(LATER, online=True), presence(OURS, online=True))
    assert state(world) == "idle"
    assert world.said(topics.PRESENCE)


def test_only_the_latest_connections_are_remembered(world: World) -> None:
    for number in range(100):
        world.tell(events.Connected(f"{number:016x}"))
    assert len(world.core._c.presence._former) == REMEMBERED_CONNECTIONS


def test_our_own_birth_and_older_ones_are_no_other_machine(world: World) -> None:
    world.tell(events.Connected(OURS))
    world.tell(presence(OTHER, online=True, retained=True), presence(OTHER, online=True))
    world.tell(presence(OURS, online=True), presence(OTHER, online=True, retained=True))
    assert world.effects == []
    assert state(world) == "idle"


def test_another_machine_with_our_id_makes_us_quiet_until_we_connect_again(world: World) -> None:
    world.begin_training()
    world.tell(presence(OURS, online=True), presence(OTHER, online=True))
    assert state(world) == "displaced"
    assert world.all(effects.StopTraining)
    assert world.all(effects.Publish) == []
    assert world.core.next_deadline() is None
    world.tell(announcement(2, assignment(2)), federation(11), presence(OTHER, online=False))
    assert world.all(effects.Publish) == []
    assert world.all(effects.Fetch) == []
    world.tell(events.Disconnected(), events.Connected(LATER))
    assert state(world) == "fetching"


def test_a_displaced_agent_keeps_its_update_and_offers_it_when_it_connects_again(world: World) -> None:
    world.begin_uploading()
    world.tell(presence(OURS, online=True), presence(OTHER, online=True))
    assert isinstance(world.tell(grant((0,)))[0], effects.Reject)
    world.tell(events.Disconnected(), events.Connected(LATER))
    assert world.said(topics.OFFER) == [PENDING]
    assert state(world) == "uploading"


def test_of_two_machines_with_one_id_exactly_one_goes_on() -> None:
    first, second = World(), World()
    first.tell(events.Connected(OURS), presence(OURS, online=True))
    second.tell(events.Connected(OTHER))
    stored = presence(OURS, online=True, retained=True)
    live = presence(OTHER, online=True)
    second.tell(stored, live)
    first.tell(live)
    assert (state(first), state(second)) == ("displaced", "idle")


def test_every_transition_of_the_table_has_a_reason_and_a_way_back() -> None:
    states = set(AgentState)
    assert {start for start, _ in TRANSITIONS} == states
    assert {end for _, end in TRANSITIONS} == states
    assert all(TRANSITIONS.values())


def test_a_transition_outside_the_table_is_a_fault(world: World) -> None:
    with pytest.raises(AssertionError, match="in no table"):
        world.core._c.enter(AgentState.UPLOADING)


def test_a_program_larger_than_any_is_declined_and_not_fetched(world: World) -> None:
    world.tell(events.Connected(OURS))
    world.tell(announcement(1, assignment(program=blob("1", MAX_PROGRAM_BYTES + 1))))
    (report,) = cast("list[Report]", world.said(topics.REPORT))
    assert report.declined is DeclineReason.PROGRAM
    assert world.all(effects.Fetch) == []


def test_an_aggregator_of_an_older_session_is_a_warning_for_people(world: World) -> None:
    world.tell(announcement(1, None), federation(10), federation(9))
    (reject,) = world.all(effects.Reject)
    assert reject.warning
    assert "delete state.json" in reject.reason
    world.tell(announcement(1, None, session=9))
    assert not world.all(effects.Reject)[0].warning


def test_an_evaluation_is_done_though_the_rounds_update_was_lost(world: World) -> None:
    world.begin_uploading()
    world.tell(events.UpdateLost(UPDATE.transfer, "disk gone"), announcement(2, assignment(1, "evaluating")))
    assert state(world) == "fetching"


def test_there_is_a_rule_for_every_event() -> None:
    assert set(RULES) == set(get_args(events.Event))
