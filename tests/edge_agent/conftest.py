from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.mosquitto import Mosquitto
from edge_agent.store import Store
from tests.broker.peer import Peer
from tests.edge_agent.agent_world import DEVICE, World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "state")) as opened:
        yield opened


@pytest.fixture
def device(mosquitto: Mosquitto) -> Iterator[Peer]:
    """The device's connection."""
    with Peer(mosquitto.settings(DEVICE), DEVICE) as peer:
        yield peer
