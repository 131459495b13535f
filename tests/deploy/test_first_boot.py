"""The scripts that run on a device: first boot, versions side by side, and losses of power at any step."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from deploy.card.contents import card_files, read_bundle
from deploy.card.flash import flash
from deploy.card.partition import MountedPartition
from deploy.card.wheelhouse import read_wheelhouse
from deploy.units.catalogue import SERVICES, unit_text
from tests.deploy.card_world import SECRET, mounted, write_bundle, write_wheelhouse
from tests.deploy.device_root import NEVER, DeviceRoot

VERSION = "0.1.0-1"
GOOD, BAD = "connected, idle", "not connected, idle"


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheelhouse(tmp_path_factory.mktemp("wheels") / "cp313-aarch64", VERSION)


@pytest.fixture
def device(tmp_path: Path, wheelhouse: Path) -> DeviceRoot:
    """A device that boots from a flashed card for the first time."""
    return flashed(tmp_path, wheelhouse)


def flashed(folder: Path, wheelhouse: Path) -> DeviceRoot:
    found = DeviceRoot(folder)
    boot = MountedPartition(mounted(found.boot))
    bundle = read_bundle(write_bundle(folder, "pi-1"))
    content = card_files(bundle, read_wheelhouse(wheelhouse), "console=tty1", None)
    flash(boot, content, lambda _: None)
    return found


def first_boot(device: DeviceRoot, cut_after: int = 1_000_000) -> subprocess.CompletedProcess[str]:
    return device.run(device.payload / "first-boot.sh", device.payload, cut_after=cut_after)


def assert_installed(device: DeviceRoot) -> None:
    etc = device.root / "etc/midge"
    assert (etc / "device.key").read_bytes() == SECRET
    assert stat.S_IMODE((etc / "device.key").stat().st_mode) == 0o600
    assert {path.name for path in etc.iterdir()} == {
        ".bundle",
        "agent.toml",
        "ca.crt",
        "device.crt",
        "device.key",
    }
    assert device.current() == VERSION
    assert not device.payload.exists()
    assert device.calls[-1] == "systemctl start --no-block midge-agent.service"
    assert "systemctl enable --quiet midge-agent.service midge-versions.service" in device.calls
    units = device.root / "etc/systemd/system"
    assert (units / "midge-agent.service").read_text() == unit_text(SERVICES["agent"])
    assert (units / "midge-agent.service.d/backoff.conf").exists()


def test_a_first_boot_installs_offline_and_moves_the_secrets(device: DeviceRoot) -> None:
    key = (device.payload / "bundle/device.key").open("rb")
    ended = first_boot(device)
    assert ended.returncode == 0, ended.stderr
    assert "this device is pi-1" in ended.stdout
    assert_installed(device)
    told = subprocess.run(
        [device.opt / "current/bin/midge-agent"], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"{VERSION}\n"
    with key:
        # What was in its place on the card.
        assert set(key.read()) == {0}


def steps_of(device: DeviceRoot) -> int:
    """How many steps a first boot has; the device is as before."""
    saved = {path: path.with_name(f"{path.name}.saved") for path in (device.root, device.boot)}
    for path, copy in saved.items():
        shutil.copytree(path, copy, symlinks=True)
    assert first_boot(device).returncode == 0
    steps = NEVER - int((device.world / "count").read_text())
    for path, copy in saved.items():
        shutil.rmtree(path)
        copy.rename(path)
    return steps


def test_the_power_may_go_at_any_step(tmp_path: Path) -> None:
    wheelhouse = write_wheelhouse(tmp_path / "wheels", VERSION, pip=False)
    steps = 0
    for steps in range(1, 100):
        device = flashed(tmp_path / str(steps), wheelhouse)
        device.put_version(VERSION, GOOD)
        if first_boot(device, cut_after=steps).returncode == 0:
            break
        assert_nothing_lost(device)
        ended = first_boot(device)
        # The last steps are after the payload is gone.
        assert ended.returncode == 0 or not device.payload.exists(), ended.stderr
        assert_installed(device)
        shutil.rmtree(tmp_path / str(steps))
    assert 20 < steps < 99


@pytest.mark.parametrize(
    "left", [("SHA256SUMS",), ("wheels", "bundle", "midge-versions")], ids=["sums", "all"]
)
def test_the_power_may_go_while_the_folder_is_removed(device: DeviceRoot, left: tuple[str, ...]) -> None:
    assert first_boot(device, cut_after=steps_of(device) - 2).returncode != 0
    assert (device.payload / "INSTALLED").exists()
    for name in left:
        path = device.payload / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    before = device.calls
    ended = first_boot(device)
    assert ended.returncode == 0, ended.stdout
    assert not device.payload.exists()
    assert device.calls == before


def assert_nothing_lost(device: DeviceRoot) -> None:
    on_card, on_disk = device.payload / "bundle/device.key", device.root / "etc/midge/device.key"
    assert SECRET in [path.read_bytes() for path in (on_card, on_disk) if path.exists()]


def test_an_installation_that_was_cut_short_begins_anew(device: DeviceRoot) -> None:
    torn = device.opt / "versions" / VERSION / "bin"
    torn.mkdir(parents=True)
    (torn / "midge-agent").write_text("torn")
    ended = first_boot(device)
    assert ended.returncode == 0, ended.stderr
    assert_installed(device)
    assert subprocess.run([device.opt / "current/bin/midge-agent"], check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    "name", ["first-boot.sh", "wheels/midge-0.1.0-py3-none-any.whl", "bundle/device.key", "wheels/VERSION"]
)
def test_a_card_that_was_pulled_out_too_early_says_so(device: DeviceRoot, name: str) -> None:
    damaged = device.payload / name
    damaged.write_bytes(damaged.read_bytes() + b"\n")
    ended = first_boot(device)
    assert ended.returncode == 1
    assert "damaged" in ended.stdout + ended.stderr
    assert not any("start" in call for call in device.calls)
    assert damaged.exists()


@pytest.fixture
def running(tmp_path: Path) -> DeviceRoot:
    """A device that runs version `old` and has `good` and `bad` installed."""
    found = DeviceRoot(tmp_path)
    for version, fate in (("old", GOOD), ("good", GOOD), ("bad", BAD)):
        found.put_version(version, fate)
    (found.opt / "bin").mkdir()
    shutil.copy(Path(__file__).parents[2] / "deploy/card/device/midge-versions", found.opt / "bin")
    assert found.versions("switch", "old").returncode == 0
    return found


def test_a_version_that_reaches_the_broker_stays_and_so_does_the_one_before(running: DeviceRoot) -> None:
    ended = running.versions("switch", "good")
    assert ended.returncode == 0, ended.stderr
    assert running.current() == "good"
    assert running.versions("list").stdout.splitlines() == ["* good", "  old"]
    assert running.versions("switch", "old").returncode == 0
    assert running.current() == "old"


def test_a_version_that_does_not_reach_the_broker_is_left_again(running: DeviceRoot) -> None:
    ended = running.versions("switch", "bad", "30")
    assert ended.returncode == 1
    assert "bad has not reached the broker within 30 s: back to old" in ended.stderr
    assert running.current() == "old"
    assert [call.split()[1] for call in running.calls] == ["restart", "restart"]
    assert (running.world / "status").read_text().strip() == GOOD


@pytest.mark.parametrize(("version", "ends_as"), [("good", {"old", "good"}), ("bad", {"old"})])
def test_the_power_may_go_at_any_step_of_a_switch(
    tmp_path: Path, running: DeviceRoot, version: str, ends_as: set[str]
) -> None:
    saved = tmp_path / "saved"
    shutil.copytree(running.root, saved, symlinks=True)
    steps = 0
    for steps in range(1, 400):
        shutil.rmtree(running.root)
        shutil.copytree(saved, running.root, symlinks=True)
        cut = running.versions("switch", version, "12", cut_after=steps)
        # The boot: systemd starts what `current` names, then what is on trial is judged.
        running.run("-c", "systemctl restart")
        running.versions("judge")
        assert running.current() in ends_as
        assert not (running.opt / "trial").exists()
        if cut.returncode >= 0:
            break
    assert 10 < steps < 399


def test_what_is_not_installed_is_not_switched_to(running: DeviceRoot) -> None:
    ended = running.versions("switch", "none")
    assert ended.returncode == 1
    assert "no version none" in ended.stderr
    assert running.current() == "old"


def test_an_update_is_installed_beside_and_switched_to(running: DeviceRoot, wheelhouse: Path) -> None:
    # Nobody tells the fate of what pip installs: systemd has none to show.
    ended = running.versions("update", wheelhouse, "4")
    assert ended.returncode == 1
    assert f"{VERSION} has not reached the broker" in ended.stderr
    assert running.current() == "old"
    assert f"  {VERSION}" in running.versions("list").stdout.splitlines()


@pytest.mark.parametrize("within", ["soon", "08", "-1"])
def test_a_time_that_is_no_number_is_refused_before_anything_is_switched(
    running: DeviceRoot, within: str
) -> None:
    assert running.versions("switch", "good", within).returncode == 2
    assert running.current() == "old"
    assert not (running.opt / "trial").exists()


def test_a_switch_that_did_not_begin_is_forgotten_and_is_no_success(running: DeviceRoot) -> None:
    (running.opt / "trial").write_text("old good 30 1\n")
    ended = running.versions("judge")
    assert "cut short before it began: old runs" in ended.stdout
    assert {path.name for path in (running.opt / "versions").iterdir()} == {"old", "good", "bad"}
    assert not (running.opt / "trial").exists()


def test_what_a_full_disk_cut_short_does_not_stay_on_it(running: DeviceRoot, tmp_path: Path) -> None:
    wheels = write_wheelhouse(tmp_path / "wheels", VERSION, pip=False)
    assert running.versions("add", wheels).returncode != 0
    assert not (running.opt / "versions" / VERSION).exists()


@pytest.mark.parametrize("version", ["", "..", "a/b"])
def test_a_wheelhouse_without_a_name_installs_nothing_and_removes_nothing(
    running: DeviceRoot, tmp_path: Path, version: str
) -> None:
    wheels = write_wheelhouse(tmp_path / "wheels", VERSION, pip=False)
    (wheels / "VERSION").write_text(f"{version}\n")
    (wheels / "SHA256SUMS").unlink()
    sums = subprocess.check_output(
        ["/usr/bin/sha256sum", *(path.name for path in wheels.iterdir())], cwd=wheels
    )
    (wheels / "SHA256SUMS").write_bytes(sums)
    ended = running.versions("add", wheels)
    assert (ended.returncode, "names no version" in ended.stderr) == (1, True)
    assert running.current() == "old"
    assert (running.opt / "versions/good").exists()


def test_a_lost_connection_leaves_no_version_unjudged(running: DeviceRoot) -> None:
    hang_up = running.world / "bin/sleep"
    hang_up.write_text(f"#!/bin/sh\nkill -HUP $PPID\n{hang_up.read_text()}")
    ended = running.versions("switch", "good")
    assert ended.returncode == 0, ended.stderr
    assert not (running.opt / "trial").exists()


def test_without_a_verb_it_says_how_to_use_it(running: DeviceRoot) -> None:
    ended = running.versions()
    assert ended.returncode == 2
    assert "switch VERSION" in ended.stderr
