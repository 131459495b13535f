import socket
import subprocess
from pathlib import Path

import pytest

from deploy.dashboard.listening import read_listening
from host.errors import ConfigError


@pytest.mark.parametrize("place", ["127.0.0.1:8600", "localhost:1", "[::1]:8600", "127.8.0.1:80"])
def test_loopback_needs_no_login(place: str) -> None:
    assert read_listening(place, None, None, login=False).is_loopback


@pytest.mark.parametrize("place", ["0.0.0.0:8600", "192.168.1.4:8600", "pi.local:80", "[::]:8600"])
def test_beyond_loopback_it_does_not_listen_without_a_login(place: str) -> None:
    with pytest.raises(ConfigError, match="--no-login is for this machine alone"):
        read_listening(place, None, None, login=False)
    assert not read_listening(place, None, None, login=True).is_loopback


@pytest.mark.parametrize("place", ["8600", ":8600", "localhost:", "localhost:http", "localhost:70000", "::1"])
def test_what_names_no_host_and_port_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match="write HOST:PORT"):
        read_listening(place, None, None, login=True)


def test_a_certificate_comes_with_its_key(tmp_path: Path) -> None:
    certificate, key = tmp_path / "page.pem", tmp_path / "page.key"
    with pytest.raises(ConfigError, match="needs both"):
        read_listening("127.0.0.1:1", certificate, None, login=True)
    with pytest.raises(ConfigError, match="are no pair"):
        read_listening("127.0.0.1:1", certificate, key, login=True)
    subject = ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        *subject,
    ]
    subprocess.run(made, check=True, capture_output=True)
    assert read_listening("127.0.0.1:1", certificate, key, login=True).url(1) == "https://127.0.0.1:1/"


def test_the_address_for_people_has_brackets_where_it_needs_them() -> None:
    assert read_listening("[::1]:8600", None, None, login=True).url(8600) == "http://[::1]:8600/"


def test_a_place_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
            read_listening(f"127.0.0.1:{port}", None, None, login=True).bound()
