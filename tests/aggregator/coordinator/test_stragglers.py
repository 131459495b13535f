import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.phases import Decision, Phase
from aggregator.records import Decided, Transition
from broker.messages import AgentState
from tests.aggregator.coordinator.world import HEARTBEAT_S, LOST_AFTER_S, PROGRAM, RUN, World, at_work


def decisions(world: World) -> list[tuple[str | None, str]]:
    """Every decision so far: device and what was decided."""
    return [(r.device, r.decision) for r in world.records if isinstance(r, Decided)]


def closed_because(world: World) -> str:
    closing = [r for r in world.records if isinstance(r, Transition) and r.target == Phase.AGGREGATING]
    return closing[-1].reason


def far_behind(**settings: object) -> World:
    """After 40 s, a and b are through; c would take 400."""
    world = World(**{"deadline_s": 600.0, "quorum": 2, "straggler_factor": 3.0} | settings)
    world.begin_training("a", "b", "c")
    world.train(40.0, a=1 / 40, b=1 / 40, c=1 / 400)
    return world


def test_with_the_quorum_there_a_round_does_not_wait_for_who_is_ten_times_slower() -> None:
    world = far_behind()
    world.upload("a")
    assert decisions(world) == []
    world.upload("b")
    assert (world.phase(), closed_because(world)) == (Phase.AGGREGATING, "nobody else is due in time")
    assert decisions(world) == [("c", Decision.STRAGGLES)]


def test_why_somebody_straggles_is_remembered() -> None:
    world = far_behind()
    world.upload("a", "b")
    (decided,) = [r for r in world.records if isinstance(r, Decided)]
    assert decided == Decided(RUN, 1, "c", "straggles", "due in 360 s, at most 80 s left")


def test_a_round_below_the_quorum_waits_for_a_straggler_up_to_its_deadline() -> None:
    world = far_behind(quorum=3)
    world.upload("a", "b")
    world.train(395.0, c=1 / 400)
    assert (world.phase(), decisions(world)) == (Phase.TRAINING, [])
    world.upload("c")
    assert closed_because(world) == "target reached"


def test_without_a_factor_a_round_waits_for_whoever_can_make_it_before_its_deadline() -> None:
    world = far_behind(straggler_factor=None)
    world.upload("a", "b")
    world.train(395.0, c=1 / 400)
    assert (world.phase(), decisions(world)) == (Phase.TRAINING, [])
    world = far_behind(straggler_factor=None, deadline_s=300.0)
    world.upload("a", "b")
    assert closed_because(world) == "nobody else is due in time", (
        "400 s are more than the deadline and its grace"
    )


def test_a_round_waits_for_who_is_not_much_slower_than_the_others() -> None:
    world = World(deadline_s=600.0, quorum=2, straggler_factor=3.0)
    world.begin_training("a", "b", "c")
    world.train(40.0, a=1 / 40, b=1 / 40, c=1 / 100)
    world.upload("a", "b")
    world.train(99.0, a=1 / 40, b=1 / 40, c=1 / 100)
    assert (world.phase(), decisions(world)) == (Phase.TRAINING, [])
    world.upload("c")
    assert closed_because(world) == "target reached"


def test_the_waiting_ends_also_for_who_should_be_through_and_is_not() -> None:
    world = World(deadline_s=600.0, quorum=2, straggler_factor=3.0)
    world.begin_training("a", "b", "c")
    world.train(40.0, a=1 / 40, b=1 / 40, c=1 / 60)
    world.upload("a", "b")
    world.train(300.0, c=1 / 60)
    assert closed_because(world) == "nobody else is due in time"
    assert world.now == pytest.approx(50.0 + 120.0, abs=1e-6), "three times the slowest update"


def test_without_progress_in_its_heartbeats_nobody_is_a_straggler() -> None:
    world = World(quorum=2, deadline_s=600.0, straggler_factor=3.0)
    world.begin_training("a", "b", "c")
    world.upload("a", "b")
    world.live(599.0, "a", "b", "c")
    assert (world.phase(), decisions(world)) == (Phase.TRAINING, [])


def test_who_cannot_make_it_before_the_deadline_is_replaced() -> None:
    world = World(target=2, quorum=2, deadline_s=100.0)
    world.begin_training("a", "b")
    world.born("c")
    world.train(10.0, a=1 / 50, b=1 / 1000)
    world.beat("c")
    world.train(20.0, a=1 / 50, b=1 / 1000)
    assert ("b", Decision.STRAGGLES) in decisions(world)
    assert world.cohort == ["a", "b", "c"]
    world.upload("a", "b")
    assert closed_because(world) == "target reached", "the update of a straggler counts"


def test_who_catches_up_is_waited_for_again() -> None:
    world = World(target=2, quorum=2, deadline_s=100.0)
    world.begin_training("a", "b")
    world.train(20.0, a=1 / 50, b=1 / 1000)
    assert decisions(world) == [("b", Decision.STRAGGLES)]
    world.train(40.0, a=1 / 50, b=1 / 60)
    assert decisions(world) == [("b", Decision.STRAGGLES), ("b", Decision.CATCHES_UP)]


@pytest.mark.parametrize(
    ("settings", "examples"),
    [({"steps": 40, "batch_size": 32}, 1280), ({"epochs": 3, "validation_fraction": 0.2}, 240)],
    ids=["steps", "epochs"],
)
def test_the_speed_that_a_device_measured_before_tells_when_its_update_is_due(
    settings: dict[str, object], examples: int
) -> None:
    world = World(deadline_s=600.0, **settings)
    world.begin_waiting()
    world.born_with("a", examples=100, speeds={PROGRAM.digest: 8.0})
    world.tell(on.DeviceHeartbeat("a", at_work("a", AgentState.FETCHING)))
    due = world.now + examples / 8.0
    world.wait(HEARTBEAT_S)
    assert world.core.due == {"a": pytest.approx(due)}


# -- grace --------------------------------------------------------------------------------------------


def nearly_done(**settings: object) -> World:
    """At the deadline, b needs 20 s more."""
    world = World(**{"deadline_s": 100.0, "quorum": 2} | settings)
    world.begin_training("a", "b")
    world.train(50.0, a=1 / 50, b=1 / 120)
    world.upload("a")
    world.train(99.0, b=1 / 120)
    return world


def test_at_the_deadline_a_round_waits_once_for_who_is_nearly_done() -> None:
    world = nearly_done()
    effects = world.train(101.0, b=1 / 120)
    assert (world.phase(), decisions(world)) == (Phase.TRAINING, [(None, Decision.GRACE)])
    (announce,) = [effect for effect in effects if isinstance(effect, do.Announce)]
    assert announce.expiry_s == 30.0
    world.upload("b")
    assert closed_because(world) == "target reached"


def test_the_grace_is_bounded() -> None:
    world = nearly_done()
    world.train(129.0, b=1 / 120)
    assert world.phase() is Phase.TRAINING
    world.train(131.0, b=1 / 120)
    assert world.phase() is Phase.WAITING
    assert decisions(world).count((None, Decision.GRACE)) == 1


@pytest.mark.parametrize("settings", [{"grace_s": 0.0}, {"grace_s": 10.0}], ids=["none", "too short"])
def test_who_is_not_nearly_done_gets_no_grace(settings: dict[str, object]) -> None:
    world = nearly_done(**settings)
    world.train(101.0, b=1 / 120)
    assert (None, Decision.GRACE) not in decisions(world)
    assert world.phase() is Phase.WAITING


def test_grace_that_cannot_bring_the_quorum_is_not_given() -> None:
    world = World(deadline_s=100.0, quorum=3)
    world.begin_training("a", "b", "c")
    world.train(99.0, a=1 / 110, b=1 / 120)
    world.train(101.0, a=1 / 110, b=1 / 120)
    assert (world.phase(), world.number) == (Phase.WAITING, 1)


def test_a_grace_outlives_a_restart_and_is_not_given_again() -> None:
    world = nearly_done()
    world.train(101.0, b=1 / 120)
    world.restart()
    world.tell(on.Connected())
    world.published()
    assert world.core.seconds_left == pytest.approx(30.0)
    world.train(500.0, b=1 / 120)
    assert decisions(world).count((None, Decision.GRACE)) == 1


# -- lost ----------------------------------------------------------------------------------------------


def test_every_loss_and_every_return_is_remembered_once() -> None:
    world = World(quorum=2)
    world.begin_training("a", "b", "c")
    world.live(LOST_AFTER_S, "b", "c")
    world.live(HEARTBEAT_S, "b", "c")
    world.beat("a")
    world.died("c")
    assert [r for r in world.records if isinstance(r, Decided)] == [
        Decided(RUN, 1, "a", "lost", "silent for 15 s"),
        Decided(RUN, 1, "a", "back", "heard again"),
        Decided(RUN, 1, "c", "lost", "its connection ended"),
    ]


@pytest.mark.parametrize("until_s", [42.0, 122.0], ids=["long before the horizon", "just before it"])
def test_nobody_straggles_while_we_are_deaf(until_s: float) -> None:
    world = World(deadline_s=600.0, quorum=2, straggler_factor=3.0)
    world.begin_training("a", "b", "c")
    world.train(41.0, a=1 / 40, b=1 / 40, c=1 / 60)
    world.upload("a", "b")
    world.train(until_s, c=1 / 60)
    world.tell(on.Disconnected())
    world.wait(200.0)
    assert (world.phase(), decisions(world)) == (Phase.TRAINING, [])
    world.tell(on.Connected())
    world.published()
    world.wait(1.0)
    assert (world.phase(), decisions(world)) == (Phase.TRAINING, [])
