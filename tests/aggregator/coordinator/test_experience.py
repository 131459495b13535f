import pytest

from aggregator.coordinator.experience import FORGIVEN_AFTER_ROUNDS, MOST_ROUNDS_OUT, drop_out
from aggregator.coordinator.fitness import judged, shortage
from aggregator.coordinator.phases import Decision, Phase
from aggregator.records import Decided
from broker.needs import Misfit, Obstacle
from tests.aggregator.coordinator.world import World


def decided(world: World, kind: Decision) -> list[tuple[int, str | None, str]]:
    """Every decision of a kind: round, device and reason."""
    return [
        (r.round, r.device, r.reason) for r in world.records if isinstance(r, Decided) and r.decision == kind
    ]


def finish(world: World) -> None:
    """What follows the training of a round, up to the next one."""
    world.aggregated()
    world.published()
    world.evaluated()


def play(world: World, after_s: float, *reporters: str, lost: str = "") -> None:
    """A round in which some report after a while and others are lost, up to the next round."""
    world.born("a", "b", "c")
    assert world.phase() is Phase.TRAINING
    cohort = world.cohort
    for _ in range(int(after_s // 5)):
        world.beat("a", "b", "c")
        world.wait(5.0)
    for device in reporters:
        if device in cohort:
            world.upload(device)
    if lost in cohort and world.phase() is Phase.TRAINING:
        world.died(lost)
    assert world.phase() is Phase.AGGREGATING
    world.born("a", "b", "c")
    finish(world)


def round_s(world: World) -> float:
    assert world.run.round is not None
    return world.run.round.deadline_s


def begun(**settings: object) -> World:
    world = World(**{"rounds": 100, "federated_evaluation": False} | settings)
    world.begin_training("a", "b", "c")
    return world


# -- the deadline ----------------------------------------------------------------------------------------


def test_the_deadline_follows_the_times_of_updates_down_by_halves() -> None:
    world = begun(deadline_s=600.0, min_deadline_s=10.0)
    assert round_s(world) == 600.0
    expected = 600.0
    for _ in range(4):
        play(world, 40.0, "a", "b", "c")
        expected = (expected + 1.5 * 40.0) / 2
        assert round_s(world) == pytest.approx(expected)
    assert decided(world, Decision.DEADLINE)[0] == (
        2,
        None,
        "330 s of 600, by the times of earlier updates",
    )


def test_the_deadline_goes_up_at_once_and_never_above_what_the_operator_set() -> None:
    world = begun(deadline_s=200.0, min_deadline_s=10.0, abandoned_limit=100)
    for _ in range(6):
        play(world, 10.0, "a", "b", "c")
    assert round_s(world) < 25.0
    short = round_s(world)
    world.live(short, "a", "b", "c")
    assert world.number == 8
    assert round_s(world) == pytest.approx(2 * short), "after an abandoned round"
    for _ in range(5):
        world.live(round_s(world), "a", "b", "c")
    assert round_s(world) == 200.0


def test_the_deadline_is_never_below_its_least() -> None:
    world = begun(deadline_s=100.0, min_deadline_s=50.0)
    for _ in range(8):
        play(world, 0.0, "a", "b", "c")
    assert round_s(world) == pytest.approx(50.0, abs=0.3)


def test_who_was_quick_while_the_others_died_does_not_shorten_the_deadline() -> None:
    world = begun(deadline_s=100.0, min_deadline_s=10.0, quorum=2, grace_s=0.0)
    world.upload("a")
    world.died("b", "c")
    world.live(100.0, "a")
    world.born("b", "c")
    assert (world.number, round_s(world)) == (2, 100.0)


def test_without_a_least_deadline_it_stays_what_the_operator_set() -> None:
    world = begun(deadline_s=100.0)
    play(world, 0.0, "a", "b", "c")
    assert (round_s(world), decided(world, Decision.DEADLINE)) == (100.0, [])


def test_no_replacement_is_invited_when_an_update_takes_longer_than_the_time_left() -> None:
    world = World(rounds=9, target=2, quorum=2, deadline_s=100.0, grace_s=0.0, federated_evaluation=False)
    world.begin_training("a", "b")
    world.born("c")
    for _ in range(12):
        world.beat("a", "b", "c")
        world.wait(5.0)
    world.upload("a", "b")
    finish(world)
    first, second = world.cohort
    (spare,) = {"a", "b", "c"} - {first, second}
    world.live(30.0, "a", "b", "c")
    world.died(first)
    assert world.invited() == [spare], "60 s are enough in 70"
    world.live(15.0, second, spare)
    world.born(first, life=2)
    world.died(second)
    assert len(world.cohort) == 3


# -- drop-out --------------------------------------------------------------------------------------------


def test_the_drop_out_is_measured_and_what_is_long_ago_counts_less() -> None:
    world = begun(quorum=2)
    assert drop_out(world.run) == pytest.approx(0.1)
    for _ in range(12):
        play(world, 0.0, "a", "b", "c")
    reliable = drop_out(world.run)
    assert reliable < 0.05
    play(world, 0.0, "a", "b", lost="c")
    assert drop_out(world.run) > reliable


def test_how_many_are_invited_follows_the_drop_out_and_is_remembered() -> None:
    world = begun(target=1, quorum=1, over_selection=3.0, min_over_selection=1.0)
    assert len(world.cohort) == 2
    for _ in range(3):
        play(world, 0.0, world.cohort[0], lost=world.cohort[1])
    assert decided(world, Decision.INVITES)[0] == (1, None, "2 devices for 1 updates, 10% drop out")


# -- back-off --------------------------------------------------------------------------------------------


def rounds_of(world: World, device: str, rounds: int) -> list[int]:
    """The rounds that ask a device which fails each of them."""
    asked = []
    for _ in range(rounds):
        if device in world.cohort:
            asked.append(world.number)
        play(world, 0.0, *{"a", "b", "c"} - {device}, lost=device)
    return asked


def test_who_fails_again_and_again_sits_out_twice_as_many_rounds_each_time() -> None:
    world = begun(quorum=2)
    assert rounds_of(world, "c", 40) == [1, 2, 4, 7, 12, 21, 38]
    assert decided(world, Decision.BACKS_OFF)[:2] == [
        (2, "c", "failed 2 rounds in a row: asked again from round 4 on"),
        (4, "c", "failed 3 rounds in a row: asked again from round 7 on"),
    ]
    assert MOST_ROUNDS_OUT == 16


def test_an_update_forgives_all() -> None:
    world = begun(quorum=2)
    assert rounds_of(world, "c", 3) == [1, 2]
    assert "c" in world.cohort
    play(world, 0.0, "c", "a", "b")
    assert world.run.experience.back_offs == {}


def test_failures_of_long_ago_are_forgotten() -> None:
    world = begun(quorum=2)
    rounds_of(world, "c", 2)
    world.died("c")
    for _ in range(FORGIVEN_AFTER_ROUNDS):
        world.upload("a", "b")
        finish(world)
    assert "c" in world.run.experience.back_offs
    world.upload("a", "b")
    assert world.run.experience.back_offs == {}


def test_who_backs_off_is_no_shortage() -> None:
    world = begun(quorum=2)
    rounds_of(world, "c", 2)
    misfits = judged(world.core.fleet, world.run, world.now)
    assert misfits["a"] is None
    assert misfits["c"] is not None
    assert shortage(misfits.values(), world.settings.model_copy(update={"min_devices": 3})) == ""
    assert shortage(misfits.values(), world.settings.model_copy(update={"min_devices": 4})) != ""


def test_who_backs_off_is_asked_where_a_round_cannot_do_without() -> None:
    world = begun(quorum=2)
    rounds_of(world, "c", 2)
    assert world.cohort == ["a", "b"]
    world.upload("a", "b")
    world.died("b")
    finish(world)
    assert world.cohort == ["a", "c"]


def test_who_backs_off_fills_a_cohort_that_is_short_of_its_spares() -> None:
    world = begun(target=2, quorum=1, over_selection=1.5)
    for _ in range(2):
        world.died("c")
        world.upload("a", "b")
        world.born("c")
        finish(world)
    assert world.run.experience.backs_off("c", world.number)
    assert world.cohort == ["a", "b", "c"]


def test_a_round_that_is_abandoned_is_nobodys_fault() -> None:
    world = begun(quorum=2, deadline_s=20.0)
    world.upload("a")
    world.died("b", "c")
    world.wait(20.0)
    assert world.run.experience.back_offs == {}


def test_what_was_learnt_outlives_a_restart() -> None:
    world = begun(quorum=2, min_deadline_s=10.0)
    rounds_of(world, "c", 2)
    before = world.run.experience
    world.restart()
    assert world.run.experience == before
    assert before.back_offs["c"].failures == 2


def test_a_snapshot_from_before_there_was_experience_is_read() -> None:
    world = begun()
    snapshot = world.run.model_dump()
    del snapshot["experience"]
    assert type(world.run).model_validate(snapshot).experience.back_offs == {}


def test_a_misfit_says_when_a_device_is_asked_again() -> None:
    world = begun(quorum=2)
    rounds_of(world, "c", 4)
    world.upload("a", "b")
    found = judged(world.core.fleet, world.run, world.now)["c"]
    assert found == Misfit(Obstacle.BACKS_OFF, "failed 3 rounds in a row: asked again from round 7 on")
