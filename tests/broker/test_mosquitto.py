import os
import select
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from broker.events import Disconnected, Refused
from broker.mosquitto import Mosquitto, find_mosquitto
from broker.topics import FEDERATION, Topics
from host.errors import ChildError, ConfigError
from tests.broker.peer import PATIENCE_S, Peer
from tests.conftest import USERS

PARENT = """
import sys
from pathlib import Path
from broker.mosquitto import Mosquitto
from broker.topics import Role, Topics

broker = Mosquitto(Path(sys.argv[1]), Topics("lab"), {"aggregator": Role.AGGREGATOR})
broker.start()
print(broker.pid, flush=True)
sys.stdin.read()
"""


def test_a_broker_that_is_not_installed_is_the_operators_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="apt install mosquitto"):
        find_mosquitto()


def test_passwords_are_for_the_owner_only_and_stay(
    mosquitto: Mosquitto, tmp_path: Path, topics: Topics
) -> None:
    file = mosquitto.settings("pi-1").password_file
    assert file is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = file.read_text()
    assert len(password) >= 32
    assert password not in (tmp_path / "mosquitto" / "accounts").read_text()
    Mosquitto(tmp_path / "mosquitto", topics, USERS)
    assert file.read_text() == password


def test_settings_are_of_the_brokers_federation_and_prefix(tmp_path: Path) -> None:
    topics = Topics("lab", "site/hall")
    with Mosquitto(tmp_path, topics, USERS) as broker:
        assert broker.settings("pi-1").topics == topics
        with Peer(broker.settings("pi-1"), "pi-1") as peer:
            assert peer.send("site/hall/v1/lab/devices/pi-1/offer", b"x").ok


def test_an_unknown_user_is_refused(mosquitto: Mosquitto) -> None:
    stranger = mosquitto.settings("pi-1").model_copy(update={"username": "stranger"})
    peer = Peer(stranger, "stranger")
    assert peer.until(Refused).in_a_row == 1
    peer.session.stop()


def test_retained_messages_outlive_a_stop_and_the_port_stays(mosquitto: Mosquitto, topics: Topics) -> None:
    port = mosquitto.port
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator:
        assert aggregator.send(topics.topic(FEDERATION), b"kept", retain=True).ok
        mosquitto.stop()
        aggregator.until(Disconnected)
    mosquitto.start()
    assert mosquitto.port == port
    with Peer(mosquitto.settings("pi-1"), "pi-1", topics.topic(FEDERATION)) as device:
        assert device.receive_until(b"kept") == []


def test_nothing_is_kept_without_persistence(tmp_path: Path, topics: Topics) -> None:
    broker = Mosquitto(tmp_path, topics, USERS, persistence=False)
    with broker, Peer(broker.settings("aggregator"), "aggregator") as aggregator:
        assert aggregator.send(topics.topic(FEDERATION), b"gone", retain=True).ok
    with (
        broker,
        Peer(broker.settings("aggregator"), "aggregator") as aggregator,
        Peer(broker.settings("pi-1"), "pi-1", topics.topic(FEDERATION)) as device,
    ):
        assert aggregator.send(topics.topic(FEDERATION), b"fresh").ok
        assert device.receive_until(b"fresh") == []


def test_a_given_port_that_is_taken_is_an_error_with_the_brokers_words(
    tmp_path: Path, topics: Topics
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = Mosquitto(tmp_path, topics, USERS, port=taken.getsockname()[1])
        with pytest.raises(ChildError, match="Address already in use"):
            broker.start()
        with pytest.raises(RuntimeError, match="does not run"):
            assert broker.pid


def test_a_free_port_that_got_taken_is_replaced(
    tmp_path: Path, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]
        other.close()
        offered = iter([taken.getsockname()[1], taken.getsockname()[1], free, free, free])
        monkeypatch.setattr("broker.mosquitto._free_port", lambda: next(offered))
        with Mosquitto(tmp_path, topics, USERS) as broker:
            assert broker.port == free


def test_a_broker_that_cannot_start_says_why(tmp_path: Path, topics: Topics) -> None:
    broker = Mosquitto(tmp_path, topics, USERS)
    (tmp_path / "mosquitto.db").write_text("no database")
    with pytest.raises(ChildError, match="mosquitto ended with status"):
        broker.start()


def test_stopping_twice_is_stopping_once(mosquitto: Mosquitto) -> None:
    mosquitto.stop()
    mosquitto.stop()
    with pytest.raises(RuntimeError, match="does not run"):
        mosquitto.kill()


def test_a_broker_that_hangs_is_killed(mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.mosquitto.STOP_TIMEOUT_S", 0.1)
    pid = mosquitto.pid
    os.kill(pid, signal.SIGSTOP)
    mosquitto.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_the_broker_ends_with_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with parent:
        assert parent.stdout is not None
        broker = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        # The descriptor of a process becomes readable when the process ends.
        ended, _, _ = select.select([broker], [], [], PATIENCE_S)
        if not ended:
            signal.pidfd_send_signal(broker, signal.SIGKILL)
        os.close(broker)
        assert ended
