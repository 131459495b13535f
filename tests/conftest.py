import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from broker.mosquitto import Mosquitto
from broker.topics import Role, Topics

# A loaded machine is no failure.
hypothesis.settings.register_profile(
    "midge", deadline=None, max_examples=50, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("midge")

USERS = {
    "aggregator": Role.AGGREGATOR,
    "operator": Role.OPERATOR,
    "monitor": Role.MONITOR,
    "registrar": Role.REGISTRAR,
    "pi-1": Role.DEVICE,
    "pi-2": Role.DEVICE,
    "pi-3": Role.DEVICE,
}


@pytest.fixture
def topics() -> Topics:
    return Topics("lab")


@pytest.fixture
def mosquitto(tmp_path: Path, topics: Topics) -> Iterator[Mosquitto]:
    """A running broker with an account for each of USERS."""
    with Mosquitto(tmp_path / "mosquitto", topics, USERS) as broker:
        yield broker


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts this process and those it starts, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Commands set up logging for their process: undo it where a test runs one in ours."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
