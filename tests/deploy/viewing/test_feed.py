"""A view kept up to date from a real broker, through its mishaps."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.accounts import update_accounts
from broker.happenings import EventDocument, EventKind
from broker.monitor import DeviceDocument
from broker.mosquitto import Mosquitto
from broker.settings import BrokerSettings
from broker.topics import MONITOR_DEVICE, MONITOR_EVENTS, Role, Topics
from deploy.command.options import OperatorSettings
from deploy.home.home import Home
from deploy.viewing import feed as feed_module
from deploy.viewing.feed import RIVAL, Feed
from host.errors import ConfigError
from host.settings import load_settings
from tests.broker.peer import Peer
from tests.deploy.home.federation import by_password, local, make_home, running

PATIENCE_S = 20.0


def look_until(feed: Feed, condition: Callable[[], bool]) -> None:
    """Look until it is so, as somebody before a screen would."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, feed.trouble
        feed.look(0.05)


def watching(mosquitto: Mosquitto, user: str = "monitor") -> Feed:
    return Feed(mosquitto.settings(user).model_copy(update={"reconnect_min_s": 0.02, "reconnect_max_s": 0.1}))


def device(name: str) -> DeviceDocument:
    return DeviceDocument(device=name, live=True, state="idle", at_unix_s=time.time(), renewed_every_s=30)


def tell(aggregator: Peer, topics: Topics, name: str) -> None:
    aggregator.send(topics.topic(MONITOR_DEVICE, device=name), device(name).payload(), retain=True)


@pytest.mark.parametrize("user", ["monitor", "operator"])
def test_it_shows_what_the_broker_has_and_what_comes(mosquitto: Mosquitto, topics: Topics, user: str) -> None:
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator:
        tell(aggregator, topics, "pi-1")
        with watching(mosquitto, user) as feed:
            assert not feed.connected
            look_until(feed, lambda: "pi-1" in feed.view.devices)
            assert (feed.connected, feed.trouble, feed.refused, feed.missed) == (True, "", False, 0)
            tell(aggregator, topics, "pi-2")
            look_until(feed, lambda: "pi-2" in feed.view.devices)


def test_after_a_restart_of_the_broker_it_shows_what_is_there_then(
    mosquitto: Mosquitto, topics: Topics
) -> None:
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator:
        for name in ("pi-1", "pi-2"):
            tell(aggregator, topics, name)
        with watching(mosquitto) as feed:
            look_until(feed, lambda: len(feed.view.devices) == 2)
            # It comes back without what it had kept.
            mosquitto.kill()
            look_until(feed, lambda: not feed.connected)
            assert feed.trouble
            assert not feed.refused
            assert list(feed.view.devices) == ["pi-1", "pi-2"]
            mosquitto.start()
            aggregator.online()
            tell(aggregator, topics, "pi-2")
            look_until(feed, lambda: feed.connected and "pi-2" in feed.view.devices)
            assert feed.trouble == ""
            look_until(feed, lambda: list(feed.view.devices) == ["pi-2"])


def test_a_wrong_password_is_this_accounts_trouble(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    settings = mosquitto.settings("monitor").model_copy(update={"password_file": tmp_path / "wrong"})
    with Feed(settings) as feed:
        look_until(feed, lambda: feed.refused)
        assert "refuses this account" in feed.trouble
        assert "check username and password_file" in feed.trouble
        assert not feed.connected


def test_a_password_that_is_not_there_is_said_at_once(mosquitto: Mosquitto, tmp_path: Path) -> None:
    settings = mosquitto.settings("monitor").model_copy(update={"password_file": tmp_path / "none"})
    with pytest.raises(ConfigError, match="cannot be read"), Feed(settings):
        pass


def test_nobody_at_the_address_is_told_with_what_to_do() -> None:
    with Feed(BrokerSettings(url="mqtt://127.0.0.1:1")) as feed:
        look_until(feed, lambda: feed.trouble != "")
        assert "is the broker running" in feed.trouble
        assert not feed.refused


def test_an_account_without_the_right_sees_nothing(mosquitto: Mosquitto, topics: Topics) -> None:
    with (
        Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator,
        watching(mosquitto, "pi-1") as stranger,
        watching(mosquitto) as feed,
    ):
        look_until(stranger, lambda: stranger.connected)
        tell(aggregator, topics, "pi-2")
        look_until(feed, lambda: bool(feed.view.devices))
        stranger.look(0.2)
        assert stranger.view.devices == {}


def test_what_does_not_fit_its_queue_is_counted_and_the_newest_picture_comes_again(
    mosquitto: Mosquitto, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "QUEUED", 20)
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator, watching(mosquitto) as feed:
        look_until(feed, lambda: feed.connected)
        for number in range(1, 201):
            event = EventDocument(
                number=number, at_unix_s=number, kind=EventKind.JOINED, text="pi joined", session=1
            )
            aggregator.send(topics.topic(MONITOR_EVENTS), event.model_dump_json().encode())
        look_until(feed, lambda: feed.missed > 0)
        look_until(feed, lambda: not feed.look())
        tell(aggregator, topics, "pi-1")
        look_until(feed, lambda: "pi-1" in feed.view.devices)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def elsewhere(home: Home, folder: Path) -> BrokerSettings:
    """The monitor's folder, copied to another machine."""
    shutil.copytree(home.of(Role.MONITOR), folder)
    return load_settings(OperatorSettings, folder / "remote.toml", {}, {}).broker


def test_from_another_machine_the_monitors_folder_is_all_it_takes(home: Home, tmp_path: Path) -> None:
    settings = elsewhere(home, tmp_path / "laptop")
    assert settings.endpoint == ("127.0.0.1", home.federation.ports.viewers, True, None)
    with (
        running(home),
        Peer(local(home, Role.AGGREGATOR), "aggregator") as aggregator,
        Feed(settings) as feed,
    ):
        tell(aggregator, home.topics, "pi-1")
        look_until(feed, lambda: "pi-1" in feed.view.devices)


def test_two_that_watch_by_one_account_there_are_told_that_each_needs_its_own(
    home: Home, tmp_path: Path
) -> None:
    """The account's name is the client id there, so that no viewer can take a device's place."""
    settings = elsewhere(home, tmp_path / "laptop")
    with running(home), Feed(settings) as first, Feed(settings) as second:
        while RIVAL not in (first.trouble, second.trouble):
            first.look(0.05)
            second.look(0.05)


def test_with_accounts_of_their_own_both_watch(home: Home, tmp_path: Path) -> None:
    settings = elsewhere(home, tmp_path / "laptop")
    update_accounts(home.broker / "viewers", {"ann": "a password"})
    other = by_password(home, home.federation.ports.viewers, "ann", "a password")
    with running(home), Feed(settings) as first, Feed(other) as second:
        look_until(first, lambda: first.connected)
        look_until(second, lambda: second.connected)
        for _ in range(20):
            first.look(0.02)
            second.look(0.02)
        assert (first.connected, second.connected) == (True, True)
