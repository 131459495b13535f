import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from host.notify import MAX_STATUS, Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd holds at the other end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


def test_what_is_said_arrives(manager: socket.socket, tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.ready()
    notifier.status("round 3\n" + "x" * 1000)
    notifier.alive()
    notifier.stopping()
    heard = [manager.recv(4096).decode() for _ in range(4)]
    assert heard[0] == "READY=1"
    assert heard[1].startswith("STATUS=round 3 xxx")
    assert len(heard[1]) == len("STATUS=") + MAX_STATUS
    assert heard[2:] == ["WATCHDOG=1", "STOPPING=1"]


def test_a_status_that_shows_already_is_not_said_again(manager: socket.socket, tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for text in ("idle", "idle", "training", "idle"):
        notifier.status(text)
    assert [manager.recv(64) for _ in range(3)] == [b"STATUS=idle", b"STATUS=training", b"STATUS=idle"]


def test_an_abstract_socket_is_understood() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("")
        listener.settimeout(10)
        name: bytes = listener.getsockname()
        Notifier({"NOTIFY_SOCKET": "@" + name[1:].decode()}).ready()
        assert listener.recv(64) == b"READY=1"


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "vsock:1"}]
)
def test_where_nobody_listens_nothing_happens(environment: dict[str, str]) -> None:
    Notifier(environment).ready()


@pytest.mark.parametrize(("usec", "expected"), [("30000000", 15.0), ("0", None), ("soon", None), ("", None)])
def test_the_watchdog_is_fed_twice_a_period(usec: str, expected: float | None) -> None:
    assert Notifier({"WATCHDOG_USEC": usec}).watchdog_s == expected
