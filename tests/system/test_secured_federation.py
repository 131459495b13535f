"""From nothing to a trained round as an operator does it: midge init, midge enroll, and TLS on both sides."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.mosquitto import _free_port
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.home.home import Home
from tests.deploy.home.federation import local, running
from tests.system.lab import KERAS_TASK, PATIENCE_S, Lab, write_examples

DEVICES = ("pi-1", "pi-2")
SERVICES = {"MIDGE_HEARTBEAT_S": "0.5", "MIDGE_TASKS__BLOBS__FILE": str(KERAS_TASK)}


class Secured(Lab):
    """A lab whose accounts are those of a home."""

    def __init__(self, home: Home) -> None:
        super().__init__(home.root, local(home, Role.OPERATOR))
        self._home = home

    def account(self, user: str) -> BrokerSettings:
        return local(self._home, Role(user))


def midge(*arguments: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("midge"), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home on free ports: whoever wants other ports writes them to federation.toml first."""
    folder = tmp_path / "home"
    folder.mkdir()
    ports = (f"{name} = {_free_port()}" for name in ("devices", "enrolment", "viewers", "local"))
    lines = ('name = "lab"', 'hosts = ["127.0.0.1"]', "[ports]", *ports)
    (folder / "federation.toml").write_text("\n".join(lines) + "\n")
    assert f"midge-aggregator run --config {folder}" in midge("init", str(folder))
    return Home.open(folder)


def enroll(home: Home, device: str) -> None:
    data = home.root / f"{device}.npz"
    write_examples(data, 60, seed=int(device[-1]))
    chosen = {"data.path": data, "state_folder": home.root / "state" / device, "nice": 0}
    settings = (word for key, value in chosen.items() for word in ("--set", f"{key}={value}"))
    midge("enroll", device, "--home", str(home.root), "--tag", "lab", *settings)


@pytest.fixture
def secured(home: Home) -> Iterator[Secured]:
    for device in DEVICES:
        enroll(home, device)
    with running(home), Secured(home) as lab:
        lab._start("midge-aggregator", home.of(Role.AGGREGATOR) / "aggregator.toml", "aggregator", SERVICES)
        for device in DEVICES:
            lab._start("midge-agent", home.devices / device / "agent.toml", device)
        yield lab


def secrets_of(home: Home) -> list[str]:
    """What must be nowhere but in its file: passwords, and the middle of each key."""
    passwords = [file.read_text() for file in home.root.glob("*/password")]
    keys = [file.read_text() for file in home.root.rglob("*.key")]
    return [*passwords, *(key.splitlines()[len(key.splitlines()) // 2] for key in keys)]


@pytest.mark.timeout(180)
def test_enrolled_devices_train_a_round_over_mutual_tls_and_no_secret_is_told(
    secured: Secured, home: Home
) -> None:
    secured.until(lambda seen: seen.get("federation", {}).get("live") == len(DEVICES))
    run = secured.start_run(rounds=1, min_devices=2, runtime="litert")
    assert secured.until_ended(run)["state"] == "finished"
    assert secured.accepted(run, 1).keys() == set(DEVICES)
    said = "".join(log.read_text(errors="replace") for log in home.root.glob("*.log"))
    said += str(secured.history)
    secrets = secrets_of(home)
    # An agent that has asked for its next certificate has a key more.
    assert len(secrets) >= 4 + 6
    assert not [secret for secret in secrets if secret in said]
