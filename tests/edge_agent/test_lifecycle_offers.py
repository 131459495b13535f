"""What becomes of an update that waits for its receipt."""

import pytest

from broker import topics
from broker.messages import DeclineReason, ReceiptOutcome, Report
from edge_agent import effects, events
from edge_agent.snapshot import RoundKey, Snapshot
from tests.edge_agent.agent_world import (
    LATER,
    PENDING,
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
)


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
    assert world.state() == "idle"


def test_a_receipt_for_another_transfer_or_round_changes_nothing(world: World) -> None:
    world.begin_uploading()
    for wrong in (receipt(update=blob("9")), receipt(round_number=2)):
        assert isinstance(world.tell(wrong)[0], effects.Reject)


def test_nothing_is_trained_while_an_update_is_pending_but_its_offer_is_repeated(world: World) -> None:
    world.begin_uploading()
    world.tell(announcement(2, assignment(2)))
    assert world.said(topics.OFFER) == [PENDING]
    assert world.state() == "uploading"
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
    assert world.state() == "idle"


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
    assert world.state() == "idle"
