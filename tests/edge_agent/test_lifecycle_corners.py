"""What no ordinary course of a device's work meets."""

from broker.messages import Presence
from edge_agent import effects, events
from tests.edge_agent.agent_world import OTHER, OURS, UPDATE, World, receipt


def seen(connection: str) -> events.PresenceSeen:
    return events.PresenceSeen(Presence(online=True, connection=connection), retained=False)


def test_a_receipt_that_comes_while_another_machine_has_our_id_lets_the_update_go() -> None:
    world = World()
    world.begin_uploading()
    world.tell(seen(OURS), seen(OTHER))
    assert world.core.state.value == "displaced"
    world.tell(receipt())
    assert world.all(effects.DeleteUpdate) == [effects.DeleteUpdate(UPDATE.transfer)]
    assert world.core.snapshot().pending is None
    assert world.core.state.value == "displaced"
