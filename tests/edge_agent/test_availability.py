from typing import cast

import pytest

from broker import topics
from broker.messages import DeclineReason, Presence, Report
from edge_agent import effects, events
from edge_agent.availability import CALM_S, Availability, Hindrance
from tests.edge_agent.agent_world import (
    NEW_THETA,
    OURS,
    PROGRAM,
    THETA,
    World,
    announcement,
    assignment,
    federation,
    receipt,
    trained,
)

HOT = Hindrance(DeclineReason.HEAT, "90.0 °C, at most 80 (max_temperature_c)")
FULL = Hindrance(DeclineReason.DISK, "2 MiB free")
PAUSED = Hindrance(DeclineReason.PAUSED, "paused by its owner for 2 h")
NIGHT = Hindrance(DeclineReason.HOURS, "takes part at 22:00-06:00 only (hours)")


@pytest.fixture
def world() -> World:
    made = World()
    made.tell(events.Connected(OURS), federation())
    return made


def judge(world: World, hindrance: Hindrance | None) -> None:
    world.tell(events.AvailabilityJudged(hindrance))


def declined(world: World) -> list[tuple[DeclineReason | None, str]]:
    return [(report.declined, report.detail) for report in cast("list[Report]", world.said(topics.REPORT))]


def told(world: World) -> list[tuple[DeclineReason | None, str]]:
    births = cast("list[Presence]", world.said(topics.PRESENCE))
    return [(birth.unavailable, birth.detail) for birth in births]


# The hindrance that stands.


def test_a_measured_hindrance_is_over_after_a_while_without_any() -> None:
    availability = Availability()
    assert availability.judged(HOT, 0.0)
    assert not availability.judged(None, 10.0)
    assert not availability.judged(None, 10.0 + CALM_S - 1)
    assert availability.hindrance == HOT
    assert availability.judged(None, 10.0 + CALM_S)
    assert availability.hindrance is None


def test_a_flickering_sensor_is_told_once_a_while() -> None:
    availability = Availability()
    changes = sum(
        availability.judged((HOT, None, FULL)[second % 3], float(second))
        for second in range(10 * int(CALM_S))
    )
    assert changes == 1
    assert availability.hindrance == HOT


@pytest.mark.parametrize("planned", [PAUSED, NIGHT], ids=["paused", "hours"])
def test_what_was_planned_begins_and_ends_at_once(planned: Hindrance) -> None:
    availability = Availability()
    assert availability.judged(planned, 0.0)
    assert availability.judged(None, 1.0)
    assert availability.hindrance is None


def test_the_owners_wish_stands_before_what_was_measured_and_gives_way_to_it() -> None:
    availability = Availability()
    availability.judged(HOT, 0.0)
    assert availability.judged(PAUSED, 1.0)
    assert availability.hindrance == PAUSED
    assert availability.judged(HOT._replace(detail="91 °C"), 2.0)
    assert not availability.judged(HOT._replace(detail="92 °C"), 3.0)
    assert availability.hindrance == HOT._replace(detail="91 °C")


# What the lifecycle makes of it.


def test_a_round_that_is_announced_while_something_hinders_is_declined_with_the_reason(world: World) -> None:
    judge(world, NIGHT)
    assert told(world) == [tuple(NIGHT)]
    world.tell(announcement(1, assignment()))
    assert declined(world) == [tuple(NIGHT)]
    assert world.all(effects.Fetch) == []


def test_the_next_round_is_trained_when_the_hindrance_is_over(world: World) -> None:
    judge(world, NIGHT)
    world.tell(announcement(1, assignment()))
    judge(world, None)
    assert told(world) == [(None, "")]
    assert world.all(effects.Fetch) == []
    world.tell(announcement(2, assignment(2)))
    assert world.all(effects.Fetch) == [effects.Fetch((PROGRAM, THETA))]


@pytest.mark.parametrize("hindrance", [HOT, PAUSED], ids=["heat", "paused"])
def test_training_stops_at_once_and_is_declined(hindrance: Hindrance) -> None:
    world = World()
    job = world.begin_training()
    judge(world, hindrance)
    assert declined(world) == [tuple(hindrance)]
    assert world.all(effects.StopTraining) == [effects.StopTraining()]
    assert world.state() == "idle"
    assert isinstance(world.tell(trained(job))[0], effects.Reject)


def test_a_download_stops_at_once_and_the_warm_trainer_with_it(world: World) -> None:
    world.tell(announcement(1, assignment()))
    judge(world, HOT)
    assert world.all(effects.StopFetching)
    assert world.all(effects.StopTraining)
    assert declined(world) == [tuple(HOT)]


def test_an_evaluation_is_put_off_and_begun_again_when_there_is_time(world: World) -> None:
    world.tell(announcement(1, assignment(1, "evaluating")))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(NEW_THETA.digest))
    judge(world, PAUSED)
    assert world.all(effects.StopTraining) == [effects.StopTraining()]
    assert (declined(world), world.state()) == ([], "idle")
    judge(world, None)
    assert world.all(effects.Fetch)
    assert world.state() == "fetching"


@pytest.mark.parametrize("hindrance", [FULL, PAUSED], ids=["disk", "paused"])
def test_an_update_that_is_ready_is_delivered_all_the_same(hindrance: Hindrance) -> None:
    world = World()
    world.begin_uploading()
    judge(world, hindrance)
    assert world.state() == "uploading"
    world.tell(receipt())
    assert world.core.snapshot().pending is None


def test_a_hindrance_is_told_by_the_birth_of_the_next_connection_too() -> None:
    world = World()
    judge(world, HOT)
    assert world.all(effects.Publish) == []
    world.tell(events.Connected(OURS))
    assert told(world) == [tuple(HOT)]


def test_what_has_not_changed_is_not_said_again(world: World) -> None:
    judge(world, HOT)
    for degrees in range(50):
        judge(world, HOT._replace(detail=f"{90 + degrees} °C"))
        assert world.effects == []


# Checking in.


def test_a_fleet_checks_in_with_a_new_aggregator_spread_over_a_heartbeat() -> None:
    moments = []
    for seed in range(200):
        world = World(seed=seed)
        world.begin_uploading()
        world.tell(federation(11, heartbeat_s=4.0), announcement(1, assignment(), session=11))
        assert world.said(topics.OFFER) == []
        assert world.core._c.check_in_at is not None
        moments.append(world.core._c.check_in_at - world.now)
        world.now = world.core._c.check_in_at
        world.tell(events.TimerFired())
        assert len(world.said(topics.OFFER)) == 1
    quarters = [sum(begin <= moment < begin + 1 for moment in moments) for begin in range(4)]
    assert sum(quarters) == 200
    assert min(quarters) > 25


def test_a_check_in_that_a_broken_connection_made_needless_is_dropped() -> None:
    world = World()
    world.begin_uploading()
    world.tell(federation(11), events.Disconnected())
    assert world.core.next_deadline() is None
