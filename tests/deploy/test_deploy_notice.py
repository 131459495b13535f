"""How a fleet on this machine is found by its own user, and by nobody else."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import typer

from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.command.options import OperatorSettings, demo_settings, watching
from deploy.local.fleet import LocalFleet
from deploy.local.folder import FleetFolder
from deploy.local.notice import await_newest, newest, notices, posted
from host.errors import ConfigError

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from broker.settings import BrokerSettings
from deploy.local.notice import posted
account = BrokerSettings(url="mqtt://127.0.0.1:1")
with posted(account, account):
    print("posted", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's runtime folder of this test's own."""
    place = tmp_path / "runtime"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    return place


def account(name: str, port: int = 1) -> BrokerSettings:
    return BrokerSettings(
        url=f"mqtt://127.0.0.1:{port}",
        username=name,
        password_file=Path("/there") / name,
        federation="local",
    )


def test_a_fleet_is_found_while_it_runs_and_not_afterwards(place: Path) -> None:
    assert newest() is None
    with posted(account("monitor"), account("operator")):
        found = newest()
        assert found is not None
        assert (found.monitor, found.operator) == (account("monitor"), account("operator"))
    assert newest() is None
    assert list((place / "midge").iterdir()) == []


def test_of_two_fleets_the_newer_is_found_and_then_the_older() -> None:
    with posted(account("monitor", 1), account("operator", 1)), ExitStack() as second:
        second.enter_context(posted(account("monitor", 2), account("operator", 2)))
        found = newest()
        assert found is not None
        assert found.monitor == account("monitor", 2)
        second.close()
        found = newest()
        assert found is not None
        assert found.monitor == account("monitor", 1)


def test_what_a_killed_fleet_left_is_not_found_and_removed(place: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"posted\n"
        assert newest() is not None
        holder.kill()
        holder.wait()
    assert len(list((place / "midge").iterdir())) == 1
    assert newest() is None
    assert list((place / "midge").iterdir()) == []


def test_a_broken_notice_is_passed_over(place: Path) -> None:
    with posted(account("monitor"), account("operator")):
        (notice,) = (place / "midge").iterdir()
        notice.write_text("{")
        assert newest() is None


def test_without_a_runtime_folder_it_is_a_private_one_among_the_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = notices()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert notices() == folder


def test_a_folder_that_others_could_write_is_not_trusted(place: Path) -> None:
    (place / "midge").mkdir()
    (place / "midge").chmod(0o777)
    with pytest.raises(ConfigError, match="not a folder that only you may write"):
        notices()


def test_a_link_is_not_trusted(place: Path, tmp_path: Path) -> None:
    (place / "midge").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="not a folder that only you may write"):
        notices()


def test_waiting_says_so_once_and_ends_when_a_fleet_comes() -> None:
    with ExitStack() as fleet:

        def begin() -> None:
            fleet.enter_context(posted(account("monitor"), account("operator")))

        assert await_newest(60.0, begin) is not None


def test_a_local_fleet_is_found_by_its_accounts(tmp_path: Path) -> None:
    with LocalFleet(FleetFolder(tmp_path / "fleet"), {}, {}, lambda _: None) as fleet:
        monitor, operator = demo_settings(Role.MONITOR).broker, demo_settings(Role.OPERATOR).broker
        assert (monitor.url, monitor.username, monitor.federation) == (fleet.url, "monitor", "local")
        assert operator.username == "operator"
        assert operator.password()
    assert newest() is None


@pytest.fixture
def verb() -> tuple[typer.Typer, list[OperatorSettings]]:
    seen: list[OperatorSettings] = []

    def note(operator: OperatorSettings) -> None:
        seen.append(operator)

    app = typer.Typer()
    app.command()(watching(Role.MONITOR)(note))
    return app, seen


def test_the_option_demo_finds_the_broker(verb: tuple[typer.Typer, list[OperatorSettings]]) -> None:
    app, seen = verb
    with posted(account("monitor"), account("operator")):
        app(["--demo", "--timeout", "3"], standalone_mode=False)
        app(["--broker", "mqtt://elsewhere"], standalone_mode=False)
    assert [(one.broker.url, one.broker.username) for one in seen] == [
        ("mqtt://127.0.0.1:1", "monitor"),
        ("mqtt://elsewhere", None),
    ]
    assert seen[0].timeout_s == 3


def test_demo_and_a_broker_contradict_each_other(verb: tuple[typer.Typer, list[OperatorSettings]]) -> None:
    app, _ = verb
    with pytest.raises(ConfigError, match="leave out --password-file"):
        app(["--demo", "--password-file", "x"], standalone_mode=False)
