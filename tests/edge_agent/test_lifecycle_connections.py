"""What the agent says on its connections, and when another machine has its id."""

from typing import cast

from broker import topics
from broker.messages import AgentState, Heartbeat, Presence
from edge_agent import effects, events
from edge_agent.presence import REMEMBERED_CONNECTIONS
from tests.edge_agent.agent_world import (
    BIRTH,
    LATER,
    OTHER,
    OURS,
    PENDING,
    UPDATE,
    World,
    announcement,
    assignment,
    federation,
    grant,
    receipt,
    trained,
)


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
    world.tell(events.VitalsMeasured(1000, 50.5, 0.8, 30, 40))
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
            battery=0.8,
            bytes_up=30,
            bytes_down=40,
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
    assert world.state() == "idle"
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
    assert world.state() == "idle"


def test_another_machine_with_our_id_makes_us_quiet_until_we_connect_again(world: World) -> None:
    world.begin_training()
    world.tell(presence(OURS, online=True), presence(OTHER, online=True))
    assert world.state() == "displaced"
    assert world.all(effects.StopTraining)
    assert world.all(effects.Publish) == []
    assert world.core.next_deadline() is None
    world.tell(announcement(2, assignment(2)), federation(11), presence(OTHER, online=False))
    assert world.all(effects.Publish) == []
    assert world.all(effects.Fetch) == []
    world.tell(events.Disconnected(), events.Connected(LATER))
    assert world.state() == "fetching"


def test_a_displaced_agent_keeps_its_update_and_offers_it_when_it_connects_again(world: World) -> None:
    world.begin_uploading()
    world.tell(presence(OURS, online=True), presence(OTHER, online=True))
    assert isinstance(world.tell(grant((0,)))[0], effects.Reject)
    world.tell(events.Disconnected(), events.Connected(LATER))
    assert world.said(topics.OFFER) == [PENDING]
    assert world.state() == "uploading"


def test_of_two_machines_with_one_id_exactly_one_goes_on() -> None:
    first, second = World(), World()
    first.tell(events.Connected(OURS), presence(OURS, online=True))
    second.tell(events.Connected(OTHER))
    stored = presence(OURS, online=True, retained=True)
    live = presence(OTHER, online=True)
    second.tell(stored, live)
    first.tell(live)
    assert (first.state(), second.state()) == ("displaced", "idle")


def test_a_receipt_that_comes_while_another_machine_has_our_id_lets_the_update_go(world: World) -> None:
    world.begin_uploading()
    world.tell(presence(OURS, online=True), presence(OTHER, online=True))
    assert world.state() == "displaced"
    world.tell(receipt())
    assert world.all(effects.DeleteUpdate) == [effects.DeleteUpdate(UPDATE.transfer)]
    assert world.core.snapshot().pending is None
    assert world.state() == "displaced"
