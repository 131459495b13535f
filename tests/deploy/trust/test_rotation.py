import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.events import Connected, Disconnected
from broker.messages import Announcement
from broker.signing import Signer, unseal
from broker.topics import HEARTBEAT, ROUND, Role
from deploy.home.home import Home
from deploy.trust.rotation import rotate_broker, served_serial
from host.certificates import belongs, serial
from host.errors import ConfigError
from host.exits import ExitCode
from tests.broker.peer import Peer
from tests.deploy.trust.ground import Ground, Teller, run


@pytest.fixture
def ground(home: Home) -> Iterator[Ground]:
    """A broker whose certificates are of the home's authority."""
    with Ground(home.root, authority=home.authority()) as made:
        yield made


def test_the_broker_shows_its_new_certificate_and_nobody_is_disconnected(
    ground: Ground, home: Home, teller: Teller
) -> None:
    device = ground.device("pi-1")
    before = served_serial(ground.tls)
    assert before == serial((ground.folder / "broker.crt").read_bytes())
    with Peer(device, "pi-1") as peer:
        assert rotate_broker(home, ground.file, teller) is ExitCode.OK, teller.said
        assert peer.send(ground.topics.topic(HEARTBEAT, device="pi-1"), b"x").ok
        events = [peer.inbox.get(0) for _ in range(3)]
        assert not any(isinstance(event, Disconnected) for event in events)
    after = (ground.folder / "broker.crt").read_bytes()
    assert served_serial(ground.tls) == serial(after) != before
    assert belongs(after, (ground.folder / "broker.key").read_bytes())
    # The broker reads it as a member of its group.
    assert (ground.folder / "broker.key").stat().st_mode & 0o777 == 0o640
    peer = Peer(device, "pi-1")
    assert peer.until(Connected)
    peer.session.stop()


def test_a_broker_that_does_not_run_reads_it_when_it_starts(home: Home) -> None:
    code, said = run(home, "rotate", "broker")
    assert code == ExitCode.FAILED
    assert "has yet to read it: no mosquitto runs" in said
    key = (home.broker / "broker.key").read_bytes()
    assert belongs((home.broker / "broker.crt").read_bytes(), key)


def test_who_shows_no_certificate_has_no_serial_number() -> None:
    assert served_serial(1) is None


def test_a_broker_without_tls_has_nothing_to_change(home: Home) -> None:
    (home.broker / "mosquitto.conf").write_text("listener 1\nrequire_certificate true\ncertfile /x\n")
    with pytest.raises(ConfigError, match="name 1 files of certificates and 0 of keys"):
        run(home, "rotate", "broker")


def test_devices_that_pinned_the_old_signing_key_obey_the_new_one(home: Home) -> None:
    topic, order = home.topics.topic(ROUND), Announcement(session=1, sequence=1)
    pinned = home.aggregator_key()
    _, said = run(home, "rotate", "signing")
    assert home.aggregator_key() != pinned
    assert home.aggregator_key() in said
    signer = Signer(home.of(Role.AGGREGATOR) / "signing.key")
    assert unseal(topic, signer.seal(topic, order), pinned) == order


def test_the_home_follows_the_key_of_an_aggregator_that_runs_elsewhere(home: Home, tmp_path: Path) -> None:
    topic, order = home.topics.topic(ROUND), Announcement(session=1, sequence=1)
    pinned = home.aggregator_key()
    shutil.copy(home.of(Role.AGGREGATOR) / "signing.key", tmp_path)
    for _ in range(2):
        run(home, "rotate", "signing", "--folder", str(tmp_path))
        assert home.aggregator_key() == Signer(tmp_path / "signing.key").public_key
        signer = Signer(home.of(Role.AGGREGATOR) / "signing.key")
        assert unseal(topic, signer.seal(topic, order), pinned) == order


def test_a_folder_without_a_signing_key_is_told(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"signing.key is missing: name the aggregator's folder"):
        run(home, "rotate", "signing", "--folder", str(tmp_path))
