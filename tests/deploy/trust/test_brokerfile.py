import subprocess
from pathlib import Path

import pytest

from broker.conf import Listener, conf
from broker.mosquitto import _free_port, find_mosquitto
from deploy.trust.brokerfile import BrokerFile
from host.errors import ConfigError, MidgeError


def write(folder: Path, text: str) -> Path:
    path = folder / "mosquitto.conf"
    path.write_text(text)
    return path


def test_what_we_write_ourselves_is_read(tmp_path: Path) -> None:
    listeners = [Listener(8883, "acl"), Listener(1883, "acl", "accounts", loopback=True, tls=False)]
    file = BrokerFile.read(write(tmp_path, conf(tmp_path, listeners, state=tmp_path)))
    assert file.device_listener().port == 8883
    assert file.loopback_listener().port == 1883
    assert file.loopback_listener().file("password_file") == tmp_path / "accounts"
    assert file.files("crlfile") == [tmp_path / "crl.pem"]


def test_lists_that_several_listeners_share_are_named_once(tmp_path: Path) -> None:
    text = (
        "#listener 1\nlistener 2\ncrlfile /a\nlistener 3\n  crlfile /a\n#crlfile /c\nlistener 4\ncrlfile /b"
    )
    file = BrokerFile.read(write(tmp_path, text))
    assert [str(path) for path in file.files("crlfile")] == ["/a", "/b"]


@pytest.mark.parametrize("line", ["listener", "listener eight", "listener  1x 127.0.0.1"])
def test_a_listener_without_a_port_is_told(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match="has no port"):
        BrokerFile.read(write(tmp_path, line))


def test_a_missing_listener_is_told(tmp_path: Path) -> None:
    text = "listener 1 127.0.0.1\nrequire_certificate true\nlistener 2\npassword_file /x\n"
    file = BrokerFile.read(write(tmp_path, text))
    with pytest.raises(ConfigError, match="no listener with require_certificate true"):
        file.device_listener()
    with pytest.raises(ConfigError, match=r"no listener on 127\.0\.0\.1 with a password_file"):
        file.loopback_listener()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mosquitto.conf cannot be read: No such file.*--broker-config"):
        BrokerFile.read(tmp_path / "mosquitto.conf")


def test_another_process_with_the_file_among_its_arguments_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "listener 1\n")
    command = ["/bin/sh", "-c", "read line", "-c", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as reader:
        with pytest.raises(MidgeError, match=f"no mosquitto runs with -c {path}"):
            BrokerFile.read(path).reload()
        reader.communicate(b"\n")
    assert reader.returncode == 0


def test_a_broker_that_is_found_by_another_name_of_its_file_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, f"listener {_free_port()} 127.0.0.1\n")
    link = tmp_path / "link.conf"
    link.symlink_to(path)
    log = tmp_path / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen([find_mosquitto(), "-v", "-c", link], stderr=file) as broker,
    ):
        try:
            while b"running" not in log.read_bytes():
                assert broker.poll() is None, log.read_text()
            assert BrokerFile.read(path).reload() == broker.pid
            while b"Reloading config" not in log.read_bytes():
                assert broker.poll() is None, log.read_text()
        finally:
            broker.terminate()
