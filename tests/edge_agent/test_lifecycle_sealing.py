"""The lifecycle follows the aggregator's announced key: what was made for another one is given up."""

import pytest

from broker import topics
from broker.messages import Announcement
from edge_agent import effects, events
from edge_agent.snapshot import Snapshot
from tests.edge_agent.agent_world import (
    NEW_THETA,
    OURS,
    PENDING,
    PROGRAM,
    THETA,
    UPDATE,
    World,
    announcement,
    assignment,
    federation,
    trained,
)

KEY, OTHER = "ab" * 32, "cd" * 32


def sealed(
    sequence: int, key: str | None = KEY, round_number: int = 1, phase: str = "training"
) -> Announcement:
    plain = announcement(sequence, assignment(round_number, phase))
    return plain.model_copy(update={"sealing_key": key})


def fetch(world: World) -> None:
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(THETA.digest))


@pytest.fixture
def uploading(world: World) -> World:
    world.tell(events.Connected(OURS), federation(), sealed(1))
    fetch(world)
    world.tell(trained(world.job()))
    assert world.state() == "uploading"
    return world


def test_a_key_that_is_announced_is_kept_and_the_birth_is_said_again(world: World) -> None:
    world.tell(events.Connected(OURS), federation(), sealed(1))
    assert world.core.snapshot().sealing == KEY
    # Once with the connection, and once for the key.
    assert len(world.said(topics.PRESENCE)) == 2
    world.tell(sealed(2))
    assert world.said(topics.PRESENCE) == []
    fetch(world)
    assert [job.sealing for job in world.all(effects.Train)] == [KEY]


def test_without_a_key_nothing_is_sealed_and_nothing_is_written_for_it(world: World) -> None:
    world.tell(events.Connected(OURS), federation(), announcement(1, assignment()))
    assert len(world.said(topics.PRESENCE)) == 1
    fetch(world)
    assert [job.sealing for job in world.all(effects.Train)] == [None]


@pytest.mark.parametrize("key", [OTHER, None], ids=["another key", "none any more"])
def test_an_update_for_another_key_is_given_up_and_trained_again(uploading: World, key: str | None) -> None:
    uploading.tell(sealed(2, key))
    assert uploading.all(effects.DeleteUpdate) == [effects.DeleteUpdate(UPDATE.transfer)]
    assert uploading.said(topics.OFFER) == []
    assert uploading.core.snapshot().sealing == key
    assert uploading.state() == "fetching"
    fetch(uploading)
    assert [job.sealing for job in uploading.all(effects.Train)] == [key]


def test_an_update_stays_while_its_key_does_also_over_a_restart(uploading: World) -> None:
    kept = uploading.core.snapshot()
    uploading.tell(sealed(2, round_number=2))
    assert uploading.state() == "uploading"
    again = World(Snapshot.model_validate_json(kept.model_dump_json()))
    again.tell(events.Connected(OURS), federation(), sealed(1))
    assert again.state() == "uploading"
    offers = again.said(topics.OFFER)
    assert offers
    assert all(offer == PENDING for offer in offers)
    assert len(again.said(topics.PRESENCE)) == 1


def test_training_for_another_key_begins_again(world: World) -> None:
    world.tell(events.Connected(OURS), federation(), sealed(1))
    fetch(world)
    world.tell(sealed(2, OTHER))
    assert world.all(effects.StopTraining) == [effects.StopTraining()]
    assert world.state() == "fetching"
    fetch(world)
    assert [job.sealing for job in world.all(effects.Train)] == [OTHER]


def test_an_evaluation_goes_on_for_its_report_is_sealed_when_it_is_said(world: World) -> None:
    world.tell(events.Connected(OURS), federation(), sealed(1, phase="evaluating"))
    world.tell(events.Fetched(PROGRAM.digest), events.Fetched(NEW_THETA.digest))
    world.tell(sealed(2, OTHER, phase="evaluating"))
    assert world.state() == "evaluating"


def test_a_key_that_is_replayed_changes_nothing(uploading: World) -> None:
    uploading.tell(sealed(3))
    uploading.tell(sealed(2, OTHER))
    assert [type(effect) for effect in uploading.effects] == [effects.Reject]
    assert uploading.core.snapshot().sealing == KEY


def test_a_key_that_is_heard_offline_is_followed_too(uploading: World) -> None:
    uploading.tell(events.Disconnected())
    uploading.tell(sealed(2, None, round_number=2))
    assert uploading.said(topics.PRESENCE) == []
    assert uploading.core.snapshot().pending is None
