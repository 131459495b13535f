import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.phases import TRANSITIONS, Phase
from aggregator.records import RoundClosed, RunEnded, RunPrepared, RunStarted, Transition
from tests.aggregator.coordinator.world import LAYOUT, PROGRAM, RUN, TASK, World, theta

BLOBS = (PROGRAM, theta(0))


def test_a_run_begins_by_building_its_task() -> None:
    world = World()
    dumped = world.settings.model_dump(mode="json")
    started = RunStarted(RUN, TASK, dumped, 3, None, "0" * 16)
    transition = Transition(RUN, None, Phase.IDLE, Phase.PREPARING)
    assert world.start() == [
        do.Persist((started, transition), world.core.snapshot()),
        do.Prepare(RUN, TASK, world.settings),
    ]


def test_a_second_run_is_refused_while_one_is_active() -> None:
    world = World()
    world.start()
    world.tell(on.StartRun("run-b", TASK, world.settings))
    assert world.rejected() == f"run {RUN} is active: stop it first"


def test_a_run_can_start_after_the_one_before_ended() -> None:
    world = World()
    world.begin_training("a")
    world.tell(on.StopRun())
    world.tell(on.StartRun("run-b", TASK, world.settings))
    assert world.run.run == "run-b"


def test_a_built_model_is_published_before_anything_is_announced() -> None:
    world = World()
    world.tell(on.Connected())
    world.born("a")
    world.start()
    why = TRANSITIONS[Phase.PREPARING, Phase.WAITING]
    prepared = RunPrepared(RUN, theta(0), PROGRAM, LAYOUT, 1000)
    transition = Transition(RUN, None, Phase.PREPARING, Phase.WAITING, why)
    assert world.prepared() == [
        do.Persist((prepared, transition), world.core.snapshot()),
        do.PublishBlobs(RUN, BLOBS),
    ]
    world.published()
    assert world.phase() is Phase.TRAINING
    assert world.announced is not None


def test_a_task_that_cannot_be_built_ends_its_run() -> None:
    world = World()
    world.tell(on.Connected())
    world.start()
    effects = world.tell(on.PrepareFailed(RUN, "no such layer"))
    assert effects[1:] == [do.Announce(None), do.RetractBlobs(()), do.WriteHistory(RUN)]
    assert world.noted(RunEnded) == [RunEnded(RUN, "failed", "no such layer")]
    assert world.phase() is Phase.IDLE


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.PREPARING])
def test_only_a_run_that_is_being_prepared_can_be_prepared(phase: Phase) -> None:
    world = in_phase(phase)
    world.prepared()
    assert world.rejected()
    world.tell(on.PrepareFailed(RUN, "too late"))
    assert world.rejected()


def test_what_was_built_for_another_run_is_not_taken() -> None:
    world = World()
    world.start()
    world.tell(on.PrepareFailed("run-b", "not ours"))
    assert world.rejected() == "run run-b is not preparing"


def test_blobs_that_are_no_longer_wanted_are_not_announced() -> None:
    world = World()
    world.tell(on.Connected())
    world.born("a")
    world.start()
    world.prepared()
    world.tell(on.BlobsPublished((PROGRAM, theta(7))))
    assert world.rejected() == "these blobs are no longer wanted"
    assert world.phase() is Phase.WAITING


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.WAITING, Phase.TRAINING, Phase.EVALUATING])
def test_a_stopped_run_announces_none_then_takes_its_blobs_off_the_broker(phase: Phase) -> None:
    world = in_phase(phase)
    effects = world.tell(on.StopRun())
    assert effects[-3:] == [do.Announce(None), do.RetractBlobs(()), do.WriteHistory(RUN)]
    assert world.noted(RunEnded) == [RunEnded(RUN, "stopped", "stopped by an operator")]
    assert (world.core.run, world.phase()) == (None, Phase.IDLE)
    assert world.core.next_deadline() is None


@pytest.mark.parametrize(
    ("phase", "outcome", "newest"),
    [
        (Phase.TRAINING, "abandoned", 0),
        (Phase.AGGREGATING, "abandoned", 0),
        (Phase.EVALUATING, "unevaluated", 1),
    ],
)
def test_stopping_closes_the_open_round_with_the_newest_model(
    phase: Phase, outcome: str, newest: int
) -> None:
    world = in_phase(phase)
    world.tell(on.StopRun())
    (closed,) = world.noted(RoundClosed)
    assert (closed.round, closed.outcome, closed.theta) == (1, outcome, theta(newest))
    assert closed.reason == "stopped by an operator"
    assert world.all(do.DropUploads) == [do.DropUploads(RUN, 1)]
    assert [row.outcome for row in world.ledger.rounds(RUN)] == [outcome]


def test_stopping_between_rounds_closes_none() -> None:
    world = in_phase(Phase.WAITING)
    world.tell(on.StopRun())
    assert world.noted(RoundClosed) == []
    assert world.all(do.DropUploads) == []


@pytest.mark.parametrize("event", [on.StopRun(), on.PauseRun(), on.ResumeRun(), on.BlobsPublished(BLOBS)])
def test_without_a_run_nothing_can_be_done_to_it(event: on.Event) -> None:
    world = World()
    world.tell(event)
    assert world.rejected() == "no run is active"


def test_what_a_stopped_run_had_asked_for_comes_too_late() -> None:
    world = in_phase(Phase.AGGREGATING)
    world.tell(on.StopRun())
    for event in (on.Aggregated(RUN, 1, theta(1)), on.AggregationFailed(RUN, 1, "late")):
        world.tell(event)
        assert world.rejected() == "no run is active"


def test_without_a_run_a_new_connection_clears_announcement_and_blobs() -> None:
    assert World().tell(on.Connected()) == [do.Announce(None), do.RetractBlobs(())]


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.TRAINING, Phase.AGGREGATING, Phase.EVALUATING])
def test_a_new_connection_publishes_the_blobs_again_before_anything_is_announced(phase: Phase) -> None:
    world = in_phase(phase)
    world.tell(on.Disconnected())
    model = world.run.model
    assert model is not None
    assert world.tell(on.Connected()) == [do.PublishBlobs(RUN, model.blobs)]
    before = world.announced
    effects = world.published()
    assert isinstance(effects[0], do.Announce)
    assert effects[1] == do.RetractBlobs(model.blobs)
    assert world.announced == before


def test_what_is_announced_again_says_the_time_that_is_left() -> None:
    world = in_phase(Phase.TRAINING)
    world.now += 30.0
    world.tell(on.Disconnected(), on.Connected())
    world.published()
    assert [effect.expiry_s for effect in world.all(do.Announce)] == [70.0]


def test_old_blobs_leave_the_broker_after_the_new_ones_are_announced() -> None:
    world = in_phase(Phase.AGGREGATING)
    assert world.all(do.RetractBlobs) == []
    world.aggregated()
    assert world.all(do.RetractBlobs) == []
    announced, retracted = world.published()
    assert isinstance(announced, do.Announce)
    assert announced.assignment is not None
    assert announced.assignment.theta == theta(1)
    assert retracted == do.RetractBlobs((PROGRAM, theta(1)))


def test_a_round_that_opens_while_we_are_cut_off_waits_for_the_blobs() -> None:
    world = in_phase(Phase.WAITING)
    world.tell(on.Disconnected())
    world.born("a")
    assert world.phase() is Phase.WAITING
    world.tell(on.Connected())
    assert world.phase() is Phase.WAITING
    world.published()
    assert world.phase() is Phase.TRAINING


def in_phase(phase: Phase) -> World:
    """Device a takes part in round 1, as far as it got."""
    world = World(rounds=2)
    if phase is Phase.PREPARING:
        world.tell(on.Connected())
        world.start()
    elif phase is Phase.WAITING:
        world.begin_waiting()
    elif phase is Phase.TRAINING:
        world.begin_training("a")
    elif phase is Phase.AGGREGATING:
        world.begin_training("a")
        world.upload("a")
    elif phase is Phase.EVALUATING:
        world.begin_evaluating("a")
    assert world.phase() is phase
    return world
