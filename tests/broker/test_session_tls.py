import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.events import Received, Refused, Unreachable
from broker.mosquitto import _free_port, find_mosquitto
from broker.settings import BrokerSettings
from host.errors import ConfigError
from tests.broker.certificates import make_authority, make_certificate, sign
from tests.broker.peer import PATIENCE_S, Peer

CONFIG = """
allow_anonymous true
listener {plain} 127.0.0.1
listener {web} 127.0.0.1
protocol websockets
listener {server} 127.0.0.1
certfile {folder}/server.crt
keyfile {folder}/server.key
listener {mutual} 127.0.0.1
certfile {folder}/server.crt
keyfile {folder}/server.key
cafile {folder}/ca.crt
require_certificate true
listener {expired} 127.0.0.1
certfile {folder}/expired.crt
keyfile {folder}/server.key
user root
"""


@dataclass(frozen=True)
class Secured:
    """A Mosquitto with a listener for each kind of TLS, and the files of two authorities."""

    folder: Path
    ports: dict[str, int]

    def settings(self, listener: str, *, ca: str = "ca", client: str | None = None) -> BrokerSettings:
        return BrokerSettings(
            url=f"mqtts://127.0.0.1:{self.ports[listener]}",
            ca_file=self.folder / f"{ca}.crt",
            certificate_file=self.folder / f"{client}.crt" if client else None,
            key_file=self.folder / f"{client}.key" if client else None,
        )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    for authority in ("ca", "stranger"):
        make_authority(folder, authority)
    make_certificate(folder, "server", "ca")
    make_certificate(folder, "pi-1", "ca")
    make_certificate(folder, "intruder", "stranger")
    sign(folder, "server", "expired", "ca", days=-1)
    ports = {name: _free_port() for name in ("plain", "web", "server", "mutual", "expired")}
    (folder / "mosquitto.conf").write_text(CONFIG.format(folder=folder, **ports))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([find_mosquitto(), "-c", folder / "mosquitto.conf"], stderr=log) as process,
    ):
        deadline = time.monotonic() + PATIENCE_S
        while " running" not in (said := (folder / "log").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.01)
        yield Secured(folder, ports)
        process.terminate()


def exchange(settings: BrokerSettings, size: int = 300_000) -> None:
    with Peer(settings, "pi-1", "topic") as peer:
        peer.session.publish("topic", bytes(size))
        assert len(peer.until(Received).payload) == size


def test_a_server_of_our_authority_is_connected_to(secured: Secured) -> None:
    exchange(secured.settings("server"))


def test_a_certificate_of_our_own_is_shown(secured: Secured) -> None:
    exchange(secured.settings("mutual", client="pi-1"))


def test_a_server_of_another_authority_is_counted_as_a_refusal(secured: Secured) -> None:
    peer = Peer(secured.settings("server", ca="stranger"), "pi-1")
    refusals = [peer.until(Refused) for _ in range(2)]
    peer.session.stop()
    assert "certificate verify failed" in refusals[0].reason
    assert [refusal.in_a_row for refusal in refusals] == [1, 2]


def test_a_server_of_another_name_is_counted_as_a_refusal(secured: Secured) -> None:
    other = secured.settings("server").model_copy(
        update={"url": f"mqtts://localhost:{secured.ports['server']}"}
    )
    peer = Peer(other, "pi-1")
    assert "Hostname mismatch" in peer.until(Refused).reason
    peer.session.stop()


def test_an_expired_server_may_be_a_wrong_clock_and_is_tried_on(secured: Secured) -> None:
    peer = Peer(secured.settings("expired"), "pi-1")
    assert "certificate has expired" in peer.until(Unreachable).reason
    peer.session.stop()


@pytest.mark.parametrize("client", [None, "intruder"])
def test_a_client_without_a_valid_certificate_is_refused(secured: Secured, client: str | None) -> None:
    peer = Peer(secured.settings("mutual", client=client), "pi-1")
    assert "alert" in peer.until(Refused).reason
    peer.session.stop()


def test_tls_to_a_port_without_it_is_unreachable(secured: Secured) -> None:
    peer = Peer(secured.settings("plain"), "pi-1")
    assert peer.until(Unreachable).reason
    peer.session.stop()


def test_mqtt_travels_inside_a_websocket(secured: Secured) -> None:
    exchange(BrokerSettings(url=f"ws://127.0.0.1:{secured.ports['web']}/mqtt"), size=1000)


@pytest.mark.parametrize("name", ["ca_file", "certificate_file", "key_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_that_cannot_be_used_are_told_at_the_start(
    secured: Secured, tmp_path: Path, name: str, content: str | None
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    settings = secured.settings("mutual", client="pi-1").model_copy(update={name: file})
    with pytest.raises(ConfigError, match=r"broker TLS files .*file\.pem.* cannot be used"):
        Peer(settings, "pi-1")


def test_a_key_of_another_certificate_is_told_at_the_start(secured: Secured) -> None:
    settings = secured.settings("mutual", client="pi-1")
    with pytest.raises(ConfigError, match="cannot be used"):
        Peer(settings.model_copy(update={"key_file": secured.folder / "intruder.key"}), "pi-1")
