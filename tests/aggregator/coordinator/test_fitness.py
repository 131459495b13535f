import pytest

from aggregator.coordinator import events as on
from aggregator.coordinator.fitness import LASTING, available, judged, shortage
from aggregator.coordinator.phases import Phase
from broker.contract import DataContract
from broker.messages import AgentState, DeclineReason, Report
from tests.aggregator.coordinator.world import (
    LAYOUT,
    PARAMETERS,
    PROGRAM,
    RUN,
    RUNTIME,
    TASK,
    World,
    heartbeat,
    theta,
)

PAUSED = {"unavailable": DeclineReason.PAUSED, "detail": "paused by its owner for 2 h"}
SLOW = {"speeds": {PROGRAM.digest: 12.0}}


def fit(world: World) -> list[str]:
    return sorted(available(world.core.fleet, world.run, world.now))


def why(world: World, device: str) -> str:
    """Why a device is not selected; empty when it may be."""
    found = judged(world.core.fleet, world.run, world.now)[device]
    return found.why if found else ""


def waits_for(world: World) -> str:
    return shortage(judged(world.core.fleet, world.run, world.now).values(), world.settings)


def decline(world: World, device: str, reason: DeclineReason, detail: str = "") -> None:
    world.tell(on.DeviceReport(device, Report(run=RUN, round=world.number, declined=reason, detail=detail)))


@pytest.mark.parametrize(
    ("birth", "needs", "expected"),
    [
        ({"runtimes": ("torch", "litert")}, {}, "has no runtime keras, only torch, litert"),
        ({"runtimes": ()}, {}, "has no runtime keras"),
        ({"examples": 0}, {}, "holds no examples"),
        ({}, {"tags": ("indoor",)}, "lacks tag indoor"),
        (SLOW, {"examples_per_s": 50.0}, "trains 12 examples/s, the task needs 50"),
        (PAUSED, {}, "not available, paused: paused by its owner for 2 h"),
    ],
    ids=["runtime", "no runtime", "examples", "need", "speed", "paused"],
)
def test_a_device_that_does_not_fit_is_not_selected_and_it_is_said_why(
    birth: dict[str, object], needs: dict[str, object], expected: str
) -> None:
    world = World()
    world.begin_waiting(**needs)
    world.born_with("a", **birth)
    assert world.phase() is Phase.WAITING
    assert why(world, "a") == expected
    assert fit(world) == []


def test_a_device_that_is_not_available_is_selected_when_it_is_again_on_the_same_connection() -> None:
    world = World()
    world.begin_waiting()
    world.born_with("a", **PAUSED)
    world.beat("a")
    assert (world.phase(), why(world, "a")) == (Phase.WAITING, f"not available, paused: {PAUSED['detail']}")
    assert waits_for(world).endswith("kept out: 1 unavailable")
    world.born("a")
    assert world.cohort == ["a"]


def test_who_becomes_unavailable_in_a_round_is_replaced_and_not_waited_for() -> None:
    world = World(target=2)
    world.begin_waiting()
    world.tell(on.PauseRun())
    world.born("a", "b", "c")
    world.tell(on.ResumeRun())
    hot, other = world.cohort
    (spare,) = {"a", "b", "c"} - {hot, other}
    heat = {"unavailable": DeclineReason.HEAT, "detail": "90.0 °C, at most 80"}
    world.born_with(hot, **heat)
    decline(world, hot, DeclineReason.HEAT, "90.0 °C, at most 80")
    assert world.invited() == [spare]
    world.upload(spare, other)
    world.aggregated()
    world.published()
    world.report(spare)
    world.report(other)
    world.evaluated()
    assert (world.phase(), world.number, world.cohort) == (Phase.TRAINING, 2, sorted([spare, other]))
    world.born(hot)
    assert fit(world) == ["a", "b", "c"]


def test_who_becomes_unavailable_while_a_model_is_evaluated_is_not_waited_for() -> None:
    world = World()
    world.begin_evaluating("a", "b")
    world.report("a")
    world.evaluated()
    assert world.phase() is Phase.EVALUATING
    world.born_with("b", **PAUSED)
    assert (world.phase(), world.cohort) == (Phase.TRAINING, ["a"])


def test_a_fleet_that_is_not_available_is_known_as_such_after_a_restart_before_its_first_heartbeat() -> None:
    world = World()
    world.begin_waiting()
    world.restart()
    world.tell(on.Connected())
    world.published()
    world.born_with("a", **PAUSED)
    assert world.phase() is Phase.WAITING


def test_a_silent_and_a_displaced_device_do_not_fit() -> None:
    world = World(min_devices=9)
    world.begin_waiting()
    world.born("a", "b")
    world.died("a")
    world.tell(on.DeviceHeartbeat("b", heartbeat("b", state=AgentState.DISPLACED)))
    assert why(world, "a").startswith("lost")
    assert why(world, "b") == "displaced by another device with its id"
    assert fit(world) == []


def test_the_needs_of_a_task_are_announced_and_outlive_a_restart() -> None:
    world = World()
    world.begin_waiting(tags=("indoor",))
    world.restart()
    world.tell(on.Connected())
    world.published()
    world.born("a")
    assert world.phase() is Phase.WAITING
    world.born_with("b", tags=("indoor", "lab"))
    assert world.cohort == ["b"]
    assert world.announced is not None
    assert world.announced.needs.tags == ("indoor",)


def test_a_device_that_turns_out_too_slow_is_replaced_and_asked_no_more_in_the_run() -> None:
    world = World(target=2)
    world.begin_waiting(examples_per_s=50.0)
    world.tell(on.PauseRun())
    world.born("a", "b", "c")
    world.tell(on.ResumeRun())
    slow, other = world.cohort
    (spare,) = {"a", "b", "c"} - {slow, other}
    world.born_with(slow, **SLOW)
    decline(world, slow, DeclineReason.NEEDS)
    assert world.invited() == [spare]
    world.upload(spare, other)
    world.aggregated()
    world.published()
    assert fit(world) == sorted([spare, other])
    world.report(spare)
    world.report(other)
    world.evaluated()
    assert (world.phase(), world.number) == (Phase.TRAINING, 2)
    assert world.cohort == sorted([spare, other])


@pytest.mark.parametrize("reason", sorted(LASTING))
def test_who_declines_for_what_no_waiting_mends_is_asked_again_on_a_new_connection(
    reason: DeclineReason,
) -> None:
    world = World(target=1, min_devices=2, quorum=1)
    world.begin_training("a", "b")
    (chosen,) = world.cohort
    decline(world, chosen, reason, "no such column")
    assert why(world, chosen) == f"declined run {RUN}: {reason}: no such column"
    world.born(chosen)
    assert why(world, chosen) != ""
    world.born(chosen, life=2)
    assert why(world, chosen) == ""


def test_a_new_connection_counts_as_such_from_its_first_heartbeat_on() -> None:
    world = World(min_devices=2, quorum=1)
    world.begin_training("a", "b")
    decline(world, "a", DeclineReason.CONTRACT)
    world.died("a")
    world.beat("a", life=2)
    world.born("a", life=2)
    assert fit(world) == ["a", "b"]


def test_who_declines_for_a_passing_reason_is_asked_again() -> None:
    world = World()
    world.begin_training("a", "b")
    decline(world, "a", DeclineReason.DISK)
    assert fit(world) == ["a", "b"]


def test_a_decline_for_good_outlives_a_restart_and_not_the_connection() -> None:
    world = World(min_devices=2, quorum=1)
    world.begin_training("a", "b")
    decline(world, "a", DeclineReason.CONTRACT, "no column " * 30)
    said = why(world, "a")
    assert len(said) < 240
    world.restart()
    world.tell(on.Connected())
    world.born("a")
    assert why(world, "a") == said
    world.born("a", life=2)
    assert why(world, "a") == ""


def test_a_decline_that_the_ledger_never_heard_of_is_forgotten_by_the_next_process() -> None:
    world = World(min_devices=2, quorum=1)
    world.begin_training("a", "b")
    report = Report(run=RUN, round=1, declined=DeclineReason.CONTRACT)
    world.core.handle(on.DeviceReport("a", report), world.now)  # and the process dies before Persist
    world.restart()
    world.tell(on.Connected())
    world.born("a", "b")
    assert fit(world) == ["a", "b"]


def test_a_device_is_judged_anew_when_anything_about_it_changes() -> None:
    world = World(min_devices=9)
    world.begin_waiting(tags=("indoor",))
    world.born("a")
    assert why(world, "a") == "lacks tag indoor"
    world.born_with("a", tags=("indoor",))
    assert why(world, "a") == ""
    world.tell(on.DeviceHeartbeat("a", heartbeat("a", state=AgentState.DISPLACED)))
    assert why(world, "a") == "displaced by another device with its id"
    world.beat("a")
    assert why(world, "a") == ""


def test_a_decline_counts_in_its_own_run_only() -> None:
    world = World()
    world.begin_training("a", "b")
    decline(world, "a", DeclineReason.CONTRACT)
    assert fit(world) == ["b"]
    contract = DataContract(shape=(4,))
    world.tell(on.StopRun(), on.StartRun("run-b", TASK, world.settings))
    world.tell(on.Prepared("run-b", theta(0), PROGRAM, LAYOUT, RUNTIME, contract, PARAMETERS))
    assert fit(world) == ["a", "b"]


def test_a_run_that_waits_says_how_many_devices_are_kept_out_by_what() -> None:
    world = World(min_devices=3)
    world.begin_waiting(tags=("indoor",), examples_per_s=50.0)
    assert waits_for(world) == "waits for devices: 3 needed, 0 fit"
    world.born("a", "b", "e")
    world.died("e")
    world.born_with("c", tags=("indoor",), **SLOW)
    world.born_with("d", tags=("indoor",))
    assert waits_for(world) == ("waits for devices: 3 needed, 1 fit; kept out: 1 lost, 1 speed, 2 tags")
    world.born_with("a", tags=("indoor",))
    world.born_with("b", tags=("indoor",))
    assert waits_for(world) == ""
