"""A federation's home with its broker running, for tests that connect as its accounts."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.mosquitto import _free_port, find_mosquitto
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.home.bundle import agent_settings, enrol
from deploy.home.create import complete, create
from deploy.home.home import PASSWORD, Home
from edge_agent.settings import AgentSettings
from host.settings import load_settings

PATIENCE_S = 20.0
RELOADED = "Reloading config."


def make_home(folder: Path) -> Home:
    """A home whose broker has free ports."""
    ports = {name: _free_port() for name in ("devices", "enrolment", "viewers", "local")}
    folder.mkdir()
    lines = ['name = "lab"', 'hosts = ["127.0.0.1"]', "[ports]", *(f"{k} = {v}" for k, v in ports.items())]
    (folder / "federation.toml").write_text("\n".join(lines) + "\n")
    home = create(folder, {})
    complete(home)
    return home


def enrolled(home: Home, device: str, **chosen: object) -> AgentSettings:
    """Enrol a device, and read its bundle as the agent does."""
    settings = agent_settings(home, device, {key.replace("__", "."): v for key, v in chosen.items()})
    bundle = enrol(home, home.authority(), settings)
    return load_settings(AgentSettings, bundle / "agent.toml", {}, {})


def local(home: Home, role: Role) -> BrokerSettings:
    """How an account reaches the broker from its machine."""
    settings = home.local_broker(role)
    return settings.model_copy(update={"password_file": home.of(role) / PASSWORD})


def by_password(home: Home, port: int, user: str, password: str) -> BrokerSettings:
    """How an account with a password reaches a TLS listener."""
    file = home.root / f"password-of-{user}-{port}"
    file.write_text(password)
    return BrokerSettings(
        url=home.federation.url(port),
        ca_file=home.broker / "ca.crt",
        username=user,
        password_file=file,
        federation=home.federation.name,
    )


@contextmanager
def running(home: Home) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the home's broker with the files that it has."""
    log = home.root / "mosquitto.log"
    with (
        log.open("wb") as file,
        subprocess.Popen([find_mosquitto(), "-c", home.broker / "mosquitto.conf"], stderr=file) as process,
    ):
        try:
            _until_said(process, log, " running")
            yield process
        finally:
            process.terminate()


def reload(home: Home, process: "subprocess.Popen[bytes]") -> None:
    """Have the broker read its accounts, rights and revocations again."""
    log = home.root / "mosquitto.log"
    before = log.read_text().count(RELOADED)
    process.send_signal(signal.SIGHUP)
    _until_said(process, log, RELOADED, before + 1)


def _until_said(process: "subprocess.Popen[bytes]", log: Path, words: str, times: int = 1) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (said := log.read_text(errors="replace")).count(words) < times:
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.01)
