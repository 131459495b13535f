from pathlib import Path

import pytest

from broker.mosquitto import _free_port
from deploy.home.create import complete, create
from deploy.home.home import Home
from tests.deploy.trust.ground import Teller


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home without a broker that runs."""
    ports = {f"ports.{name}": _free_port() for name in ("devices", "enrolment", "viewers", "local")}
    made = create(tmp_path / "home", {"hosts": ["127.0.0.1"], **ports})
    complete(made)
    return made


@pytest.fixture
def teller() -> Teller:
    return Teller()
