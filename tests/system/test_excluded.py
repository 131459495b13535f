"""A device that the aggregator does not hear, on a broker that lets it speak."""

import pytest

from broker.control import Verb
from deploy.command.control import ask, new_request
from tests.system.lab import PATIENCE_S, Lab


def told(lab: Lab, verb: Verb, device: str) -> str:
    request = new_request(verb, device=device, reason="on loan")
    reply = ask(lab.account("operator"), request, PATIENCE_S)
    assert reply.ok, reply.text
    return reply.text


@pytest.mark.timeout(240)
def test_an_excluded_device_takes_no_part_until_it_is_admitted_without_a_new_connection(lab: Lab) -> None:
    aggregator = lab.start_aggregator()
    agents = lab.start_agents("pi-1", "pi-2")
    for device in agents:
        lab.until_state(device, "idle")
    assert told(lab, Verb.EXCLUDE, "pi-2") == "pi-2 is excluded: nothing of it is heard"
    lab.until(lambda seen: seen["devices/pi-2"] == {})
    first = lab.start_run(rounds=1, quorum=1)
    assert lab.until_ended(first)["state"] == "finished"
    assert set(lab.accepted(first, 1)) == {"pi-1"}

    aggregator.kill()
    lab.start_aggregator()
    lab.until(lambda seen: seen["federation"]["live"] == 1)
    assert told(lab, Verb.ADMIT, "pi-2") == "pi-2 is heard again"
    lab.until_state("pi-2", "idle")
    second = lab.start_run(rounds=1, min_devices=2, quorum=2)
    assert lab.until_ended(second)["state"] == "finished"
    assert set(lab.accepted(second, 1)) == {"pi-1", "pi-2"}
    assert all(agent.alive for agent in agents.values())
    assert lab.log("pi-2").count("connected to mqtt://") == 1
