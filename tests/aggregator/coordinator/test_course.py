import pytest

from aggregator.coordinator import events as on
from aggregator.coordinator.course import MAX_BYTES, MAX_STEPS
from aggregator.coordinator.state import Participant
from aggregator.records import Course, RoundClosed
from broker.messages import AgentState, Report
from tests.aggregator.coordinator.world import RUN, World, at_work, connection, heartbeat, offer

FETCHING, TRAINING = AgentState.FETCHING, AgentState.TRAINING
UPLOADING, EVALUATING = AgentState.UPLOADING, AgentState.EVALUATING


def part(world: World, device: str = "a") -> Participant:
    current = world.run.round
    assert current is not None
    return current.cohort[device]


def steps(world: World, device: str = "a") -> list[tuple[str, float]]:
    return [(step.state, step.at_s) for step in part(world, device).steps]


def says(world: World, state: AgentState, device: str = "a", after_s: float = 1.0, **more: int) -> None:
    """A device is heard, some time after what came before."""
    world.wait(after_s)
    beat = at_work(device, state, number=world.number, **more)
    world.tell(on.DeviceHeartbeat(device, beat))


def fetches(world: World, counter: int, device: str = "a") -> None:
    """A device is heard with this counter of bytes."""
    says(world, FETCHING, device, 0.0, bytes_down=counter)


def courses(world: World) -> list[Course]:
    """What was remembered of participants so far."""
    return [record for record in world.records if isinstance(record, Course)]


def test_each_state_is_noted_once_with_the_time_at_which_it_was_first_heard() -> None:
    world = World()
    world.begin_training("a", "b")
    for state in (FETCHING, FETCHING, TRAINING, TRAINING, UPLOADING):
        says(world, state)
    world.wait(0.25)
    world.upload("a")
    assert steps(world) == [("fetching", 1.0), ("training", 3.0), ("uploading", 5.0), ("reported", 5.25)]
    assert steps(world, "b") == []


def test_what_was_trained_and_for_how_long_is_kept_of_the_update() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    assert (part(world).training, part(world).seconds) == ({"loss": (2.0, 4.0)}, 1.5)


def test_the_upload_that_a_device_still_speaks_of_is_over() -> None:
    world = World()
    world.begin_training("a", "b")
    says(world, UPLOADING)
    world.upload("a")
    says(world, UPLOADING)
    assert steps(world) == [("uploading", 1.0), ("reported", 1.0)]


def test_a_device_that_works_no_more_without_an_update_is_idle() -> None:
    world = World()
    world.begin_training("a", "b")
    world.beat("a")
    says(world, TRAINING)
    world.wait(1.0)
    world.beat("a")
    world.beat("a")
    assert steps(world) == [("training", 1.0), ("idle", 2.0)]


def test_evaluating_is_noted_after_the_report_and_ends_when_it_is_through() -> None:
    world = World()
    world.begin_training("a", "b")
    world.wait(2.0)
    world.upload("a", "b")
    world.beat("a")
    world.wait(1.0)
    world.aggregated()
    world.published()
    says(world, FETCHING)
    says(world, EVALUATING)
    world.wait(1.0)
    world.beat("a")
    assert steps(world) == [("reported", 2.0), ("fetching", 4.0), ("evaluating", 5.0), ("idle", 6.0)]


def test_what_is_heard_of_another_round_is_none_of_this_one() -> None:
    world = World()
    world.begin_training("a")
    world.tell(on.DeviceHeartbeat("a", at_work("a", TRAINING, number=7)))
    other_run = at_work("a", TRAINING).model_copy(update={"run": "run-x"})
    world.tell(on.DeviceHeartbeat("a", other_run))
    assert steps(world) == []


def test_another_machine_with_the_same_id_is_not_heard() -> None:
    world = World()
    world.begin_training("a")
    fetches(world, 100)
    stranger = at_work("a", TRAINING, bytes_down=9000).model_copy(update={"connection": connection("a", 2)})
    world.tell(on.DeviceHeartbeat("a", stranger))
    assert (steps(world), part(world).bytes_down) == ([("fetching", 0.0)], 0)


def test_a_device_outside_of_the_cohort_is_passed_over() -> None:
    world = World()
    world.tell(on.DeviceHeartbeat("z", heartbeat("z")))
    world.begin_training("a")
    says(world, FETCHING, "z")
    assert world.cohort == ["a"]


def test_a_pause_is_no_part_of_the_time() -> None:
    world = World()
    world.begin_training("a")
    world.live(3.0, "a")
    world.tell(on.PauseRun())
    says(world, FETCHING, after_s=500.0)
    world.tell(on.ResumeRun())
    says(world, TRAINING, after_s=2.0)
    assert steps(world) == [("fetching", 3.0), ("training", 5.0)]


def test_the_time_goes_on_while_the_model_is_made_and_evaluated() -> None:
    world = World()
    world.begin_training("a")
    world.live(10.0, "a")
    world.upload("a")
    world.live(30.0, "a")
    world.aggregated()
    world.published()
    world.live(20.0, "a")
    says(world, EVALUATING, after_s=0.0)
    assert steps(world)[-1] == ("evaluating", 60.0)


def test_the_time_goes_on_after_a_restart_where_it_stood() -> None:
    world = World()
    world.begin_training("a", "b")
    says(world, TRAINING, after_s=4.0)
    world.wait(1.0)
    world.upload("b")
    world.now += 1000.0
    world.restart()
    world.tell(on.Connected())
    says(world, UPLOADING, after_s=2.0)
    assert steps(world) == [("training", 4.0), ("uploading", 7.0)]
    assert steps(world, "b") == [("reported", 5.0)]


def test_of_too_many_steps_the_newest_is_kept() -> None:
    world = World(deadline_s=1000.0)
    world.begin_training("a", "b")
    for _ in range(MAX_STEPS):
        says(world, FETCHING)
        says(world, TRAINING)
    world.upload("a")
    assert len(steps(world)) == MAX_STEPS
    assert steps(world)[-2:] == [("fetching", 15.0), ("reported", 32.0)]


def test_bytes_count_from_the_opening_of_the_round_on() -> None:
    world = World()
    world.tell(on.Connected())
    world.born("a")
    world.tell(on.DeviceHeartbeat("a", heartbeat("a").model_copy(update={"bytes_down": 5000})))
    world.start()
    world.prepared()
    world.published()
    fetches(world, 5600)
    fetches(world, 5900)
    assert part(world).bytes_down == 900


def test_of_a_device_that_was_never_heard_before_only_what_follows_counts() -> None:
    world = World()
    world.begin_training("a")
    fetches(world, 5000)
    fetches(world, 5100)
    assert part(world).bytes_down == 100


def test_a_restarted_agent_counts_from_nothing() -> None:
    world = World()
    world.begin_training("a")
    for counter in (0, 700, 50, 80):
        fetches(world, counter)
    assert part(world).bytes_down == 780


def test_what_was_fetched_while_the_aggregator_was_down_counts() -> None:
    world = World()
    world.begin_training("a", "b")
    fetches(world, 100)
    fetches(world, 300)
    world.upload("b")
    world.restart()
    world.tell(on.Connected())
    fetches(world, 1000)
    assert part(world).bytes_down == 900


def test_no_claim_of_a_device_is_too_large_for_the_ledger() -> None:
    world = World()
    world.begin_training("a", "b")
    for counter in (0, (1 << 64) - 1, 0, (1 << 64) - 1):
        fetches(world, counter)
    world.tell(on.StopRun())
    (row,) = world.ledger.rounds(RUN)
    assert row.bytes_down == MAX_BYTES


def complete(world: World) -> None:
    world.report("a")
    world.evaluated()


def leave_unevaluated(world: World) -> None:
    world.report("a")
    world.tell(on.EvaluationFailed(RUN, 1, "out of memory"))


def stop(world: World) -> None:
    world.tell(on.StopRun())


@pytest.mark.parametrize("end", [complete, leave_unevaluated, stop], ids=lambda end: end.__name__)
def test_how_each_participant_spent_a_round_is_remembered_before_it_closes(end: object) -> None:
    assert callable(end)
    world = World(target=1, over_selection=2, rounds=1)
    world.begin_training("a", "b")
    fetches(world, 0)
    fetches(world, 400)
    world.wait(2.0)
    world.upload("a")
    world.aggregated()
    world.published()
    world.tell(on.DeviceReport("b", Report(run=RUN, round=1, metrics={"accuracy": (1.0, 2.0)})))
    end(world)
    assert courses(world) == [
        Course(RUN, 1, "a", (("fetching", 0.0), ("reported", 2.0)), 400),
        Course(RUN, 1, "b", (), 0),
    ]
    (closed,) = [place for place, record in enumerate(world.records) if isinstance(record, RoundClosed)]
    assert world.records[closed - 2 : closed] == courses(world)
    rows = world.ledger.participants(RUN, 1)
    assert [(row.steps, row.bytes_down) for row in rows] == [
        (one.steps, one.bytes_down) for one in courses(world)
    ]


def test_an_abandoned_round_is_remembered_likewise() -> None:
    world = World(quorum=2)
    world.begin_training("a", "b")
    says(world, TRAINING)
    world.wait(1.0)
    world.upload("a")
    world.live(100.0, "a", "b")
    assert [(one.device, one.steps) for one in courses(world)] == [
        ("a", (("training", 1.0), ("reported", 2.0))),
        ("b", ()),
    ]


def test_a_device_that_was_invited_later_has_a_course_of_its_own() -> None:
    world = World(target=1)
    world.begin_training("a")
    world.born("b")
    world.tell(on.DeviceHeartbeat("b", heartbeat("b").model_copy(update={"bytes_down": 70})))
    world.died("a")
    fetches(world, 100, "b")
    assert part(world, "b").bytes_down == 30
    world.tell(on.StopRun())
    assert [(one.device, one.bytes_down) for one in courses(world)] == [("a", 0), ("b", 30)]


def test_a_damaged_update_leaves_nothing_behind_but_the_steps() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.tell(on.UpdateDamaged(1, "a", offer("a").update.digest))
    assert (part(world).training, part(world).seconds) == ({}, 0.0)
    says(world, TRAINING)
    world.upload("a")
    assert [state for state, _ in steps(world)] == ["reported", "training", "reported"]
    assert part(world).accepted == offer("a").update.digest
