"""Services put in place and taken away again, in a folder instead of a whole machine, here and over ssh."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_crl

from broker.topics import Role
from deploy.command.app import run
from deploy.pki.authority import Authority
from deploy.units.catalogue import SERVICES
from deploy.units.payload import Given, write_payload
from deploy.units.placing import UNPACK, Place
from host.certificates import new_key, request
from host.errors import ConfigError
from tests.deploy.card_world import write_wheelhouse
from tests.deploy.home.federation import make_home
from tests.deploy.sshd import Sshd, find_sshd

KEY = "-----BEGIN PRIVATE KEY-----\nnot a real one\n"
UNITS = "etc/systemd/system"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not Path("/etc/debian_version").exists(), reason="installs on Debian and what descends from it"
    ),
]


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


class Midge:
    """The command, in this process: another one's imports would take longer than what it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *arguments: str | Path) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["midge", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            run()
        return Ended(int(left.value.code or 0), *self._capfd.readouterr())

    def done(self, *arguments: str | Path) -> str:
        ended = self(*arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture
def midge(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Midge:
    return Midge(monkeypatch, capfd)


def files(root: Path) -> dict[str, str]:
    """All below a folder that is no program, with its mode."""
    found = (path for path in root.rglob("*") if "opt" not in path.relative_to(root).parts)
    return {
        str(path.relative_to(root)): oct(path.lstat().st_mode & 0o777)
        for path in found
        if path.is_file() or path.is_symlink()
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "pi-1"
    folder.mkdir()
    (folder / "agent.toml").write_text('device = "pi-1"\n')
    (folder / "ca.crt").write_text("public\n")
    (folder / "device.key").write_text(KEY)
    (folder / "notes.txt").write_text("not for the device\n")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = make_home(tmp_path / "home")
    (home.root / "aggregator/ledger.sqlite").write_text("state")
    return home.root


@pytest.fixture
def placed(tmp_path: Path, bundle: Path, midge: Midge) -> Path:
    """A root in which the agent is, but for its program: that takes half a minute to install."""
    root = tmp_path / "root"
    with_program(root, "agent")
    midge.done("install", "agent", "--bundle", bundle, "--root", root)
    return root


def with_program(root: Path, name: str) -> None:
    """Have the version that would be installed be there already."""
    folder = root.parent / f"payload-{name}"
    folder.mkdir()
    write_payload(SERVICES[name], folder, Given())
    about = dict(line.split("=", 1) for line in (folder / "about").read_text().splitlines())
    version = root / SERVICES[name].folder[1:] / "versions" / about["version"]
    (version / "bin").mkdir(parents=True)
    (version / ".complete").touch()


def test_an_agent_is_installed_with_its_program(tmp_path: Path, bundle: Path, midge: Midge) -> None:
    root = tmp_path / "root"
    midge.done("install", "agent", "--bundle", bundle, "--root", root)
    agent = root / "opt/midge/current/bin/midge-agent"
    told = subprocess.run([agent, "--version"], capture_output=True, text=True, cwd="/", check=True)
    assert told.stdout.startswith("midge ")
    # It is a whole program of its own: nothing of this tree is used.
    where = "import edge_agent; print(edge_agent.__file__)"
    found = subprocess.run(
        [agent.with_name("python"), "-P", "-c", where],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(root)), found.stdout
    assert midge.done("install", "agent", "--bundle", bundle, "--root", root) == "  nothing to do\n"


def test_files_lie_where_the_unit_looks_and_secrets_are_for_root(placed: Path) -> None:
    assert files(placed) == {
        "etc/midge/agent.toml": "0o644",
        "etc/midge/ca.crt": "0o644",
        "etc/midge/device.key": "0o600",
        f"{UNITS}/midge-agent.service": "0o644",
        f"{UNITS}/multi-user.target.wants/midge-agent.service": "0o777",
        "usr/local/bin/midge-agent": "0o777",
        **({f"{UNITS}/midge-agent.service.d/backoff.conf": "0o644"} if systemd_is_new() else {}),
    }
    assert (placed / "opt/midge/current").readlink().parts[0] == "versions"


def systemd_is_new() -> bool:
    told = subprocess.run(["/usr/bin/systemctl", "--version"], capture_output=True, text=True, check=False)
    return int(told.stdout.split()[1]) >= 254


def test_doing_it_twice_changes_nothing(placed: Path, bundle: Path, midge: Midge) -> None:
    again = midge.done("install", "agent", "--bundle", bundle, "--root", placed)
    assert again == "  nothing to do\n"


def test_a_rehearsal_says_what_would_be_done_and_writes_nothing(
    tmp_path: Path, bundle: Path, midge: Midge
) -> None:
    root = tmp_path / "root"
    told = midge.done("install", "agent", "--bundle", bundle, "--root", root, "--dry-run")
    assert f"  write {root}/etc/midge/device.key (mode 600)\n" in told
    assert "-m venv" in told
    assert not root.exists()


def test_settings_that_were_mended_by_hand_are_kept_beside_the_new_ones(
    placed: Path, bundle: Path, midge: Midge
) -> None:
    (placed / "etc/midge/agent.toml").write_text("by hand\n")
    midge.done("install", "agent", "--root", placed)
    assert (placed / "etc/midge/agent.toml").read_text() == "by hand\n"
    midge.done("install", "agent", "--bundle", bundle, "--root", placed)
    assert (placed / "etc/midge/agent.toml").read_text() == 'device = "pi-1"\n'
    assert (placed / "etc/midge/agent.toml.old").read_text() == "by hand\n"


def test_a_key_that_somebody_opened_to_all_is_closed_again(placed: Path, bundle: Path, midge: Midge) -> None:
    (placed / "etc/midge/device.key").chmod(0o644)
    midge.done("install", "agent", "--bundle", bundle, "--root", placed)
    assert files(placed)["etc/midge/device.key"] == "0o600"


def test_a_version_on_trial_is_not_pulled_away(placed: Path, midge: Midge) -> None:
    (placed / "opt/midge/trial").touch()
    refused = midge("install", "agent", "--root", placed)
    assert (refused.returncode, "midge-versions judges" in refused.stderr) == (1, True)


def test_a_program_of_that_name_that_is_not_ours_stays(placed: Path, bundle: Path, midge: Midge) -> None:
    program = placed / "usr/local/bin/midge-agent"
    program.unlink()
    program.write_text("another's")
    assert "left alone" in midge.done("install", "agent", "--bundle", bundle, "--root", placed)
    midge.done("uninstall", "agent", "--purge", "--root", placed)
    assert program.read_text() == "another's"


def test_the_version_before_is_kept_and_older_ones_go(placed: Path, midge: Midge) -> None:
    versions, current = placed / "opt/midge/versions", placed / "opt/midge/current"
    newest = current.readlink().name
    for old in ("0.0.1-aaaaaaaa", "0.0.2-bbbbbbbb"):
        (versions / old).mkdir()
    current.unlink()
    current.symlink_to("versions/0.0.2-bbbbbbbb")
    midge.done("install", "agent", "--root", placed)
    assert current.readlink().name == newest
    assert {path.name for path in versions.iterdir()} == {newest, "0.0.2-bbbbbbbb"}


def test_what_a_power_cut_left_half_installed_is_made_anew(placed: Path, midge: Midge) -> None:
    (placed / "opt/midge/current").resolve().joinpath(".complete").unlink()
    told = midge.done("install", "agent", "--root", placed, "--dry-run")
    assert "rm -rf" in told
    assert "-m venv" in told


def test_uninstalling_leaves_settings_and_state_until_they_are_purged(placed: Path, midge: Midge) -> None:
    state = placed / "var/lib/midge-agent/state.json"
    state.parent.mkdir(parents=True)
    state.touch()
    (placed / "etc/midge/aggregator").mkdir()
    (placed / "etc/midge/aggregator/aggregator.toml").touch()
    # What a device from a card has besides.
    (placed / "usr/local/sbin").mkdir()
    (placed / "usr/local/sbin/midge-versions").symlink_to("/opt/midge/bin/midge-versions")
    (placed / UNITS / "midge-versions.service").touch()
    midge.done("uninstall", "agent", "--root", placed)
    assert not (placed / "opt/midge").exists()
    assert files(placed).keys() == {
        "etc/midge/agent.toml",
        "etc/midge/ca.crt",
        "etc/midge/device.key",
        "etc/midge/aggregator/aggregator.toml",
        "var/lib/midge-agent/state.json",
    }
    midge.done("uninstall", "agent", "--root", placed, "--purge")
    assert files(placed).keys() == {"etc/midge/aggregator/aggregator.toml"}


def test_the_aggregator_gets_its_settings_and_not_its_state(tmp_path: Path, home: Path, midge: Midge) -> None:
    root = tmp_path / "root"
    with_program(root, "aggregator")
    midge.done("install", "aggregator", "--home", home, "--root", root)
    found = files(root)
    assert found["etc/midge/aggregator/password"] == "0o600"
    assert found["var/lib/midge-aggregator/signing.key"] == "0o600"
    assert "etc/midge/aggregator/signing.key" not in found
    assert not any("ledger" in name for name in found)
    # It may have been replaced by a newer one since.
    (root / "var/lib/midge-aggregator/signing.key").write_text("rotated")
    assert midge.done("install", "aggregator", "--home", home, "--root", root) == "  nothing to do\n"
    assert (root / "var/lib/midge-aggregator/signing.key").read_text() == "rotated"


def test_what_vouches_for_a_signing_key_comes_with_it(tmp_path: Path, home: Path, midge: Midge) -> None:
    root = tmp_path / "root"
    midge.done("rotate", "signing", "--home", home)
    with_program(root, "aggregator")
    midge.done("install", "aggregator", "--home", home, "--root", root)
    vouchers = (root / "var/lib/midge-aggregator/signing.chain").read_bytes()
    assert vouchers == (home / "aggregator/signing.chain").read_bytes()
    assert not (root / "etc/midge/aggregator/signing.chain").exists()


def test_who_may_log_in_on_the_broker_is_never_readable_by_others(
    tmp_path: Path, home: Path, midge: Midge
) -> None:
    midge.done("install", "broker", "--home", home, "--root", tmp_path / "root")
    found = files(tmp_path / "root")
    for name in ("accounts", "viewers", "tokens", "broker.key"):
        assert int(found[f"etc/midge/broker/{name}"], 8) & 0o007 == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("agent", "--home", "."), "--bundle"),
        (("aggregator", "--bundle", "."), "--home"),
        (("agent", "--bundle", "/nowhere"), "agent.toml"),
        (("agent", "--wheelhouse", "/nowhere"), "no wheelhouse"),
        (("broker", "--home", "/nowhere"), "no federation's home"),
    ],
    ids=["home-of-an-agent", "bundle-of-an-aggregator", "no-bundle", "no-wheelhouse", "no-home"],
)
def test_what_does_not_fit_is_a_wrong_setting(
    tmp_path: Path, arguments: tuple[str, ...], words: str, midge: Midge
) -> None:
    refused = midge("install", *arguments, "--root", tmp_path / "root")
    assert refused.returncode == 78
    assert words in refused.stderr
    assert not (tmp_path / "root").exists()


def test_a_wheelhouse_that_is_damaged_is_not_carried_anywhere(tmp_path: Path, midge: Midge) -> None:
    wheels = write_wheelhouse(tmp_path / "wheels", pip=False)
    (wheels / "midge-0.1.0-py3-none-any.whl").write_bytes(b"torn")
    refused = midge("install", "agent", "--wheelhouse", wheels, "--root", tmp_path / "root")
    assert (refused.returncode, "missing or damaged" in refused.stderr) == (78, True)


def test_a_home_that_lacks_a_file_says_which(tmp_path: Path, home: Path, midge: Midge) -> None:
    (home / "broker/viewers").unlink()
    refused = midge("install", "broker", "--home", home, "--root", tmp_path / "root")
    assert refused.returncode == 78
    assert "broker/viewers is missing: midge init makes it" in refused.stderr


@pytest.mark.parametrize("name", ["my home", "a:b", "100%"])
def test_a_home_that_a_unit_cannot_name_is_refused(tmp_path: Path, midge: Midge, name: str) -> None:
    home = make_home(tmp_path / name)
    refused = midge("install", "registrar", "--home", home.root, "--root", tmp_path / "root")
    assert (refused.returncode, "a unit names no such path" in refused.stderr) == (78, True)


@pytest.mark.parametrize("host", ["-oProxyCommand=true", "pi; rm -rf /", "pi$(id)"])
def test_a_machine_s_name_is_no_command(host: str) -> None:
    with pytest.raises(ConfigError, match="USER@MACHINE"):
        Place(host)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    if find_sshd() is None:
        pytest.skip("no ssh, no sshd (sh tests/deploy/sshd.sh build/sshd), or no namespaces for root")
    with Sshd(tmp_path / "sshd") as server:
        yield server


def test_over_ssh_it_is_the_same_and_no_key_stays_behind(
    tmp_path: Path, bundle: Path, sshd: Sshd, midge: Midge
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for root in (here, there):
        with_program(root, "agent")
        (tmp_path / "payload-agent").rename(tmp_path / f"payload-{root.name}")
    place = ("--host", f"{sshd.user}@pi-1", "--ssh", sshd.ssh, "--root", there)
    midge.done("install", "agent", "--bundle", bundle, *place, "--dry-run")
    assert not (there / "etc").exists()
    midge.done("install", "agent", "--bundle", bundle, *place)
    midge.done("install", "agent", "--bundle", bundle, "--root", here)
    assert files(there) == files(here) != {}
    assert midge.done("install", "agent", "--bundle", bundle, *place) == "  nothing to do\n"
    midge.done("uninstall", "agent", "--purge", *place)
    assert files(there) == {}
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("midge.??????"))  # noqa: S108 - where mktemp makes it


def test_a_machine_that_ssh_does_not_reach_is_named(tmp_path: Path, sshd: Sshd, midge: Midge) -> None:
    refused = midge(
        "install", "broker", "--host", "nobody@pi-1", "--ssh", sshd.ssh, "--root", tmp_path / "root"
    )
    assert refused.returncode == 1
    assert "nobody@pi-1 did not take the files" in refused.stderr


def test_what_a_machine_got_in_part_is_not_left_on_it(tmp_path: Path) -> None:
    torn = subprocess.run(
        ["/bin/sh", "-c", UNPACK],
        input=b"torn",
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert (torn.returncode, [*tmp_path.iterdir()]) == (1, [])


def test_a_connection_that_is_lost_says_what_may_be_left_there(
    tmp_path: Path, bundle: Path, midge: Midge
) -> None:
    calls = tmp_path / "calls"
    (ssh := tmp_path / "ssh").write_text(
        f"#!/bin/sh\n[ ! -e {calls} ] || exit 255\ntouch {calls}\ncat >/dev/null\necho /tmp/midge.there\n"
    )
    ssh.chmod(0o755)
    refused = midge("install", "agent", "--bundle", bundle, "--host", "pi-1", "--ssh", ssh)
    assert refused.returncode == 1
    assert "remove /tmp/midge.there there" in refused.stderr


def test_the_broker_s_files_name_each_other_where_they_will_be(
    tmp_path: Path, home: Path, midge: Midge
) -> None:
    root = tmp_path / "root"
    midge.done("install", "broker", "--home", home, "--root", root)
    settings = root / "etc/midge/broker"
    conf = (settings / "mosquitto.conf").read_text()
    assert str(home) not in conf
    for path in re.findall(
        r"^(?:cafile|certfile|keyfile|crlfile|acl_file|password_file) (.*)$", conf, re.MULTILINE
    ):
        assert (root / path[1:]).is_file(), path
    assert "persistence_location /var/lib/midge-broker/" in conf
    # For root, until they are given to the group of Mosquitto.
    assert {mode for name, mode in files(settings).items()} == {"0o640"}
    (home / "broker/accounts").write_text("another")
    told = midge.done("install", "broker", "--home", home, "--root", root)
    assert "accounts" in told
    assert "mosquitto.conf" not in told


def test_a_broker_gets_the_newest_list_of_revoked_certificates_wherever_revoke_wrote_it(
    tmp_path: Path, home: Path, midge: Midge
) -> None:
    root = tmp_path / "root"
    midge.done("install", "broker", "--home", home, "--root", root)
    authority = Authority.load(home / "pki")
    authority.sign("pi-7", Role.DEVICE, request(new_key(), "pi-7"))
    authority.revoke("pi-7")
    midge.done("install", "broker", "--home", home, "--root", root)
    listed = load_pem_x509_crl((root / "etc/midge/broker/crl.pem").read_bytes())
    assert len(listed) == 1


def test_the_registrar_works_in_the_home(tmp_path: Path, home: Path, midge: Midge) -> None:
    (home / "registrar").mkdir(exist_ok=True)
    (home / "registrar/registrar.toml").touch()
    root = tmp_path / "root"
    with_program(root, "registrar")
    midge.done("install", "registrar", "--home", home, "--root", root)
    added = (root / UNITS / "midge-registrar.service.d/home.conf").read_text()
    assert f"BindPaths={home}/pki {home}/registrar\n" in added
    assert not (root / "etc/midge").exists()
    refused = midge("install", "registrar", "--home", home, "--host", "pi-1")
    assert (refused.returncode, "run midge install registrar on pi-1" in refused.stderr) == (78, True)
