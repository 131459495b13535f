import pytest

from tests.edge_agent.agent_world import World


@pytest.fixture
def world() -> World:
    return World()
