from typing import get_args

import pytest

from broker.messages import AgentState
from edge_agent import events
from edge_agent.lifecycle import RULES
from edge_agent.transitions import TRANSITIONS
from tests.edge_agent.agent_world import World


def test_every_transition_of_the_table_has_a_reason_and_a_way_back() -> None:
    states = set(AgentState)
    assert {start for start, _ in TRANSITIONS} == states
    assert {end for _, end in TRANSITIONS} == states
    assert all(TRANSITIONS.values())


def test_a_transition_outside_the_table_is_a_fault(world: World) -> None:
    with pytest.raises(AssertionError, match="in no table"):
        world.core._c.enter(AgentState.UPLOADING)


def test_there_is_a_rule_for_every_event() -> None:
    assert set(RULES) == set(get_args(events.Event))
