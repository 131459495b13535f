import random

import pytest

from aggregator.coordinator.fleet import Fleet
from aggregator.coordinator.liveness import LEARNT, LONGEST, SHORTEST, USUAL, Rhythm
from aggregator.coordinator.phases import Phase
from tests.aggregator.coordinator.world import HEARTBEAT_S, World, birth, heartbeat


def patience_after(*gaps: float) -> float:
    rhythm = Rhythm()
    for gap in gaps:
        rhythm.heard(gap)
    return rhythm.patience


def test_a_device_that_is_hardly_known_has_the_usual_patience() -> None:
    assert patience_after() == patience_after(*[0.1] * (LEARNT - 1)) == USUAL


def test_a_steady_rhythm_is_missed_sooner() -> None:
    assert patience_after(*[1.0] * 60) == SHORTEST


def test_who_beats_irregularly_is_given_more_time_within_bounds() -> None:
    jittery = patience_after(*[0.2, 1.8] * 40)
    assert USUAL < jittery < LONGEST
    assert patience_after(*[1.0, 100.0] * 40) == LONGEST


def test_an_old_disturbance_is_forgotten() -> None:
    assert patience_after(*[5.0] * 10, *[1.0] * 60) == SHORTEST


@pytest.mark.parametrize(("lost", "at_most"), [(0.01, 0.001), (0.1, 0.01)])
def test_lost_heartbeats_alone_rarely_make_a_device_lost(lost: float, at_most: float) -> None:
    chance = random.Random(5)  # noqa: S311 - a test's dice
    rhythm, wrong, beats, silent = Rhythm(), 0, 20_000, 1.0
    for _ in range(beats):
        if chance.random() < lost:
            silent += 1.0
            continue
        wrong += silent > rhythm.patience
        rhythm.heard(silent + chance.uniform(-0.05, 0.05))
        silent = 1.0
    assert wrong / beats <= at_most


# -- in the fleet ------------------------------------------------------------------------------------


def steady(fleet: Fleet, begin: float, beats: int) -> float:
    for beat in range(beats):
        fleet.heartbeat("a", heartbeat("a"), begin + beat * HEARTBEAT_S)
    return begin + (beats - 1) * HEARTBEAT_S


@pytest.fixture
def fleet() -> Fleet:
    """Device a has beaten steadily for long; the last time at 600 s."""
    made = Fleet(HEARTBEAT_S)
    made.connected(100.0)
    made.presence("a", birth("a"), 100.0, retained=False)
    assert steady(made, 105.0, 100) == 600.0
    return made


def test_a_steady_device_is_lost_after_its_own_silence(fleet: Fleet) -> None:
    silence = SHORTEST * HEARTBEAT_S
    assert fleet.next_loss({"a"}, 600.0) == 600.0 + silence
    assert fleet.alive("a", 599.9 + silence)
    assert not fleet.alive("a", 600.0 + silence)


def test_a_rhythm_that_brings_the_loss_forward_is_news() -> None:
    fleet = Fleet(HEARTBEAT_S)
    fleet.connected(0.0)
    fleet.presence("a", birth("a"), 0.0, retained=False)
    now, news, brought_forward = 0.0, list[bool](), list[bool]()
    for gap in [2.0, 12.0] * 10 + [0.1] * 20:
        before, now = fleet.next_loss({"a"}, now), now + gap
        news.append(fleet.heartbeat("a", heartbeat("a"), now))
        after = fleet.next_loss({"a"}, now)
        assert before is not None
        assert after is not None
        brought_forward.append(after < before)
    assert news == brought_forward
    assert any(news)


def test_neither_our_own_deafness_nor_a_new_connection_is_part_of_the_rhythm(fleet: Fleet) -> None:
    known = fleet.devices["a"].rhythm.mean
    fleet.disconnected(601.0)
    fleet.connected(900.0)
    fleet.heartbeat("a", heartbeat("a"), 904.0)
    fleet.overslept(904.0, 1000.0)
    fleet.heartbeat("a", heartbeat("a"), 1001.0)
    fleet.presence("a", birth("a", life=2), 1100.0, retained=False)
    fleet.heartbeat("a", heartbeat("a", life=2), 1100.0)
    assert fleet.devices["a"].rhythm.mean == known


def test_a_heartbeat_that_is_read_after_we_were_cut_off_is_no_part_of_the_rhythm(fleet: Fleet) -> None:
    known = fleet.devices["a"].rhythm.mean
    fleet.disconnected(601.0)
    fleet.heartbeat("a", heartbeat("a"), 640.0)
    assert fleet.devices["a"].rhythm.mean == known


def test_a_round_closes_sooner_for_a_steady_device_that_falls_silent() -> None:
    world = World(deadline_s=10_000.0)
    world.begin_training("a", "b")
    world.live(400.0, "a", "b")
    world.upload("a")
    world.wait(SHORTEST * HEARTBEAT_S - 0.1)
    assert world.phase() is Phase.TRAINING
    world.wait(0.1)
    assert world.phase() is Phase.AGGREGATING
