"""The bridge of docs/monitor.md, between a home's broker and one that Home Assistant would use."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from broker.accounts import update_accounts
from broker.discovery import Discovery
from broker.events import Received
from broker.mosquitto import _free_port, find_mosquitto
from broker.settings import BrokerSettings
from broker.topics import MONITOR_AGGREGATOR, MONITOR_FEDERATION, Role
from deploy.home.create import complete
from deploy.home.home import Home
from tests.broker.peer import Peer
from tests.deploy.home.federation import _until_said, local, make_home, running
from tests.docs.pages import ROOT, blocks

PASSWORD = "a password of this test"  # noqa: S105


def home_with_home_assistant(folder: Path) -> Home:
    home = make_home(folder)
    settings = home.root / "aggregator/aggregator.toml"
    settings.write_text(settings.read_text().replace("#home_assistant = false", "home_assistant = true"))
    for name in ("acl", "viewers.acl"):
        (home.broker / name).unlink()
    complete(home)
    update_accounts(home.broker / "viewers", {"homeassistant": PASSWORD})
    return home


def recipe(home: Home) -> str:
    """The block of the page, with this federation in place of the example."""
    (block,) = [one for one in blocks(ROOT / "docs/monitor.md") if "connection midge" in one.text]
    text = block.text
    for example, ours in {
        "broker.example:8885": f"127.0.0.1:{home.federation.ports.viewers}",
        "/etc/mosquitto/midge-ca.crt": str(home.broker / "ca.crt"),
        "PASSWORD": PASSWORD,
        "midge/v1/default/": f"{home.topics.root}/",
    }.items():
        assert example in text
        text = text.replace(example, ours)
    return text


@contextmanager
def bridged(home: Home, folder: Path) -> Iterator[BrokerSettings]:
    """Home Assistant's broker, where everybody may do everything."""
    port, log = _free_port(), folder / "bridge.log"
    config = folder / "bridge.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n{recipe(home)}")
    with (
        log.open("wb") as file,
        subprocess.Popen([find_mosquitto(), "-c", config], stderr=file) as process,
    ):
        try:
            _until_said(process, log, " running")
            yield BrokerSettings(url=f"mqtt://127.0.0.1:{port}")
        finally:
            process.terminate()


def test_the_bridge_brings_documents_and_descriptions_and_lets_nothing_back(tmp_path: Path) -> None:
    home = home_with_home_assistant(tmp_path / "home")
    described = Discovery(home.topics)
    federation = home.topics.topic(MONITOR_FEDERATION)
    with running(home), ExitStack() as stack:
        ours = stack.enter_context(
            Peer(local(home, Role.AGGREGATOR), "aggregator", home.topics.topic(MONITOR_AGGREGATOR))
        )
        assert ours.send(described.topic("pi-1"), b"described", retain=True).ok
        assert ours.send(federation, b"document", retain=True).ok
        theirs = stack.enter_context(bridged(home, tmp_path))
        with Peer(theirs, "home", "homeassistant/#", f"{home.topics.root}/#") as peer:
            found: dict[str, bytes] = {}
            while len(found) < 2:
                message = peer.until(Received)
                found[message.topic] = message.payload
            assert found == {described.topic("pi-1"): b"described", federation: b"document"}
            peer.send(home.topics.topic(MONITOR_AGGREGATOR), b"forged", retain=True)
            peer.send(described.status, b"online")
            assert ours.send(described.topic("pi-1"), b"", retain=True).ok
            while peer.until(Received).topic != described.topic("pi-1"):
                pass
        with Peer(theirs, "late", described.filter, federation) as late:
            message = late.until(Received)
            assert (message.topic, message.retained) == (federation, True), (
                "of the device nothing is retained"
            )
        assert ours.send(home.topics.topic(MONITOR_AGGREGATOR), b"last").ok
        assert ours.receive_until(b"last") == []
