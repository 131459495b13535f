"""`midge flash`, to a mounted boot partition and into an image, and what it refuses."""

import csv
import hashlib
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.card.cloud import Wifi
from deploy.card.cmdline import with_instance, with_memory_limits
from deploy.card.image import ImagePartition
from deploy.card.partition import MountedPartition, Partition
from deploy.home.batch import read_batch
from tests.deploy.card_world import CMDLINE, IMAGERS, image, mounted, write_bundle, write_wheelhouse
from tests.deploy.test_deploy_command import midge

PAYLOAD = {
    "midge/ID",
    "midge/SHA256SUMS",
    "midge/backoff.conf",
    "midge/bundle/SHA256SUMS",
    "midge/bundle/agent.toml",
    "midge/bundle/ca.crt",
    "midge/bundle/device.crt",
    "midge/bundle/device.key",
    "midge/first-boot.sh",
    "midge/midge-agent.service",
    "midge/midge-first-boot.service",
    "midge/midge-versions",
    "midge/midge-versions.service",
    "midge/wheels/SHA256SUMS",
    "midge/wheels/VERSION",
    "midge/wheels/midge-0.1.0-py3-none-any.whl",
    "midge/wheels/pip-1-py3-none-any.whl",
}


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheelhouse(tmp_path_factory.mktemp("wheels") / "cp313-aarch64")


@pytest.fixture(params=["mounted", "image"])
def card(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], Partition]:
    """The option that names a card, and the card."""
    if request.param == "mounted":
        boot = mounted(tmp_path / "bootfs")
        return ["--boot", str(boot)], MountedPartition(boot)
    file = image(tmp_path / "card.img")
    return ["--image", str(file)], ImagePartition(file)


def content(partition: Partition, folder: Path) -> dict[str, bytes]:
    """All files of a card."""
    if isinstance(partition, ImagePartition):
        folder.mkdir()
        environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
        command = ["mcopy", "-s", "-i", partition._drive, "::/*", str(folder)]
        subprocess.run(command, env=environment, check=True)
    else:
        assert isinstance(partition, MountedPartition)
        folder = partition._folder
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_card_gets_installation_and_bundle_and_keeps_what_imager_wrote(
    monkeypatch: pytest.MonkeyPatch, card: tuple[list[str], Partition], wheelhouse: Path, tmp_path: Path
) -> None:
    option, partition = card
    arguments = [*option, "--wheelhouse", str(wheelhouse), "--bundle", str(write_bundle(tmp_path))]
    assert midge(monkeypatch, "flash", *arguments) == 0
    found = content(partition, tmp_path / "found")
    assert found.keys() == PAYLOAD | {"config.txt", "cmdline.txt", "user-data", "vendor-data"}
    assert found["user-data"].decode() == IMAGERS
    assert found["cmdline.txt"].decode().split() == [*CMDLINE.split()[:-1], "cgroup_enable=memory"]
    assert found["vendor-data"].startswith(b"#cloud-boothook\n#!/bin/sh\n")
    for folder in ("midge", "midge/bundle", "midge/wheels"):
        for line in found[f"{folder}/SHA256SUMS"].decode().splitlines():
            digest, _, name = line.partition("  ")
            assert hashlib.sha256(found[f"{folder}/{name}"]).hexdigest() == digest


def test_a_card_that_is_flashed_again_has_the_new_bundle_only(
    monkeypatch: pytest.MonkeyPatch, card: tuple[list[str], Partition], wheelhouse: Path, tmp_path: Path
) -> None:
    option, partition = card
    for device, more in (("pi-1", {"extra.crt": b"more"}), ("pi-2", {})):
        bundle = write_bundle(tmp_path, device, **more)
        arguments = [*option, "--wheelhouse", str(wheelhouse), "--bundle", str(bundle)]
        assert midge(monkeypatch, "flash", *arguments) == 0
    found = content(partition, tmp_path / "found")
    assert {name for name in found if name.startswith("midge/")} == PAYLOAD
    assert found["midge/bundle/agent.toml"] == b'device = "pi-2"\n'


def test_a_dry_run_shows_what_it_would_write_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    card: tuple[list[str], Partition],
    wheelhouse: Path,
    tmp_path: Path,
) -> None:
    option, partition = card
    before = content(partition, tmp_path / "before")
    arguments = [*option, "--wheelhouse", str(wheelhouse), "--bundle", str(write_bundle(tmp_path))]
    assert midge(monkeypatch, "flash", "--dry-run", *arguments) == 0
    said = capsys.readouterr().out
    wheels = {name for name in PAYLOAD if name.startswith("midge/wheels/")}
    assert f"midge/wheels/: {len(wheels)} files of the wheelhouse" in said
    assert all(name in said for name in PAYLOAD - wheels)
    assert content(partition, tmp_path / "after") == before


def test_full_sets_up_the_system_too(
    monkeypatch: pytest.MonkeyPatch, card: tuple[list[str], Partition], wheelhouse: Path, tmp_path: Path
) -> None:
    option, partition = card
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA ann\n")
    (tmp_path / "wifi").write_text("correct horse\n")
    system = ["--full", "--hostname", "shed", "--user", "ann", "--ssh-key", str(tmp_path / "key.pub")]
    radio = ["--wifi", "home", "--wifi-password-file", str(tmp_path / "wifi"), "--wifi-country", "de"]
    arguments = [*option, "--wheelhouse", str(wheelhouse), "--bundle", str(write_bundle(tmp_path))]
    assert midge(monkeypatch, "flash", *arguments, *system, *radio) == 0
    found = content(partition, tmp_path / "found")
    head, user = found["user-data"].split(b"\n", 1)
    assert head == b"#cloud-config"
    assert json.loads(user)["hostname"] == "shed"
    assert json.loads(user)["users"][0]["ssh_authorized_keys"] == ["ssh-ed25519 AAAA ann"]
    instance = json.loads(found["meta-data"])["instance-id"]
    assert found["cmdline.txt"].decode().split()[-1] == f"ds=nocloud;i={instance}"
    network = json.loads(found["network-config"])["network"]["wifis"]["wlan0"]
    assert network["regulatory-domain"] == "DE"
    assert network["access-points"]["home"]["password"] == Wifi("home", "correct horse", "DE").psk()
    assert b"correct horse" not in b"".join(found.values())
    assert "midge/erase-network" in found


def test_the_key_of_a_wireless_network_is_that_of_the_standard() -> None:
    # IEEE 802.11i-2004, H.4.3, test case 1.
    key = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e"
    assert Wifi("IEEE", "password", "DE").psk() == key
    assert Wifi("IEEE", key, "DE").psk() == key


def test_a_list_makes_an_image_for_each_device_and_leaves_the_first_one_alone(
    monkeypatch: pytest.MonkeyPatch, wheelhouse: Path, tmp_path: Path
) -> None:
    source = image(tmp_path / "card.img")
    before = source.read_bytes()
    with (tmp_path / "devices.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "hostname"), ("pi-1", "shed"), ("pi-2", "")])
    for device in ("pi-1", "pi-2"):
        write_bundle(tmp_path / "devices", device)
    many = ["--csv", str(tmp_path / "devices.csv"), "--bundles", str(tmp_path / "devices"), "--full"]
    arguments = ["--image", str(source), "-o", str(tmp_path / "out"), "--wheelhouse", str(wheelhouse), *many]
    assert midge(monkeypatch, "flash", *arguments) == 0
    assert source.read_bytes() == before
    for device, hostname in (("pi-1", "shed"), ("pi-2", "pi-2")):
        made = ImagePartition(tmp_path / "out" / f"{device}.img")
        assert made.read("midge/bundle/agent.toml").decode() == f'device = "{device}"\n'
        assert json.loads(made.read("meta-data"))["local-hostname"] == hostname
    assert midge(monkeypatch, "flash", *arguments) == 78


def test_the_file_that_enrols_devices_is_also_the_list_of_cards_even_as_a_spreadsheet_writes_it(
    monkeypatch: pytest.MonkeyPatch, wheelhouse: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "devices.csv"
    listed.write_bytes(b"\xef\xbb\xbfid,tags,hostname,data.path\r\npi-1,north,shed,/srv/x.npz\r\n")
    assert read_batch(listed) == {"pi-1": {"tags": ["north"], "data.path": "/srv/x.npz"}}
    write_bundle(tmp_path / "devices", "pi-1")
    boot = mounted(tmp_path / "bootfs")
    many = ["--csv", str(listed), "--bundles", str(tmp_path / "devices"), "--full"]
    assert midge(monkeypatch, "flash", "--boot", str(boot), "--wheelhouse", str(wheelhouse), *many) == 0
    assert json.loads((boot / "meta-data").read_bytes())["local-hostname"] == "shed"


def test_a_copy_of_an_image_is_its_owner_s_alone_and_is_gone_when_writing_it_failed(
    monkeypatch: pytest.MonkeyPatch, wheelhouse: Path, tmp_path: Path
) -> None:
    source, out = image(tmp_path / "card.img", 33), tmp_path / "out"
    arguments = ["--image", str(source), "-o", str(out), "--wheelhouse", str(wheelhouse)]
    assert midge(monkeypatch, "flash", *arguments, "--bundle", str(write_bundle(tmp_path))) == 0
    assert oct((out / "pi-1.img").stat().st_mode & 0o777) == "0o600"
    ImagePartition(source).write("kernel8.img", b"\1" * (31 << 20), lambda _: None)
    assert midge(monkeypatch, "flash", *arguments, "--bundle", str(write_bundle(tmp_path, "pi-2"))) == 1
    assert [path.name for path in out.iterdir()] == ["pi-1.img"]


def test_a_card_that_was_not_changed_for_the_next_one_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wheelhouse: Path, tmp_path: Path
) -> None:
    boot = mounted(tmp_path / "bootfs")
    (tmp_path / "devices.csv").write_text("id\npi-1\npi-2\n")
    for device in ("pi-1", "pi-2"):
        write_bundle(tmp_path / "devices", device)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\ny\nn\n"))
    many = ["--csv", str(tmp_path / "devices.csv"), "--bundles", str(tmp_path / "devices")]
    assert midge(monkeypatch, "flash", "--boot", str(boot), "--wheelhouse", str(wheelhouse), *many) == 1
    assert capsys.readouterr().err.count("still the card of pi-1") == 2
    assert (boot / "midge/bundle/agent.toml").read_text() == 'device = "pi-1"\n'


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--hostname", "my shed"], "is no host name"),
        (["--user", "root"], "--user root"),
        (["--wifi", "home", "--wifi-country", "germany"], "two letters"),
        (["--wifi", "", "--wifi-country", "de"], "1 to 32 bytes"),
        (["--wifi", "n" * 33, "--wifi-country", "de"], "1 to 32 bytes"),
        (["--wifi", "home", "--wifi-country", "de", "--wifi-password-file", "short"], "8 to 63"),
        (["--wifi", "home", "--wifi-country", "de", "--wifi-password-file", "no-hex"], "64 hex digits"),
    ],
    ids=["hostname", "user", "country", "no-name", "long-name", "short", "no-hex"],
)
def test_what_a_system_would_not_take_is_refused_before_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wheelhouse: Path,
    tmp_path: Path,
    options: list[str],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, password in (("good", "correct horse"), ("short", "horse"), ("no-hex", "x" * 64)):
        (tmp_path / name).write_text(password)
    if "--wifi" in options and "--wifi-password-file" not in options:
        options = [*options, "--wifi-password-file", "good"]
    boot = mounted(tmp_path / "bootfs")
    arguments = ("--wheelhouse", str(wheelhouse), "--bundle", str(write_bundle(tmp_path)), "--full", *options)
    assert why in refused(monkeypatch, capsys, "--boot", str(boot), *arguments)
    assert not (boot / "midge").exists()


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 78
) -> str:
    assert midge(monkeypatch, "flash", *arguments) == status
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("config.txt", "there is no config.txt"),
        ("cmdline.txt", "there is no cmdline.txt"),
        ("user-data", "no cloud-init"),
    ],
)
def test_what_is_no_boot_partition_of_a_new_system_is_refused_untouched(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wheelhouse: Path,
    tmp_path: Path,
    missing: str,
    why: str,
) -> None:
    boot = mounted(tmp_path / "bootfs")
    (boot / missing).unlink()
    before = sorted(boot.iterdir())
    arguments = ("--wheelhouse", str(wheelhouse), "--bundle", str(write_bundle(tmp_path)))
    assert why in refused(monkeypatch, capsys, "--boot", str(boot), *arguments)
    assert sorted(boot.iterdir()) == before


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        (b"", "card.img", "no partition table"),
        (b"\0" * 510 + b"\x55\xaa", "card.img", "no FAT partition"),
        (b"", "card.img.xz", "unxz --keep card.img.xz"),
    ],
    ids=["empty", "no-partition", "compressed"],
)
def test_what_is_no_image_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wheelhouse: Path,
    tmp_path: Path,
    content: bytes,
    name: str,
    why: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    arguments = ("--wheelhouse", str(wheelhouse), "--bundle", str(write_bundle(tmp_path)))
    assert why in refused(monkeypatch, capsys, "--image", str(tmp_path / name), *arguments)


def test_vendor_data_of_others_is_not_overwritten(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    card: tuple[list[str], Partition],
    wheelhouse: Path,
    tmp_path: Path,
) -> None:
    option, partition = card
    partition.write("vendor-data", b"#!/bin/sh\nanother's\n", lambda _: None)
    arguments = (*option, "--wheelhouse", str(wheelhouse), "--bundle", str(write_bundle(tmp_path)))
    assert "not midge's" in refused(monkeypatch, capsys, *arguments)
    assert partition.read("vendor-data") == b"#!/bin/sh\nanother's\n"


def test_a_card_without_room_is_told_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wheelhouse: Path, tmp_path: Path
) -> None:
    card = image(tmp_path / "card.img", 33)
    full = ImagePartition(card)
    full.write("kernel8.img", b"\1" * (31 << 20), lambda _: None)
    arguments = ("--wheelhouse", str(wheelhouse), "--bundle", str(write_bundle(tmp_path)))
    said = refused(monkeypatch, capsys, "--image", str(card), *arguments, status=1)
    assert "has 2 MB left" in said
    assert "midge" not in full.names()


@pytest.mark.parametrize("damage", ["wheel", "missing", "none"])
def test_a_damaged_wheelhouse_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, damage: str
) -> None:
    house = write_wheelhouse(tmp_path / "wheels")
    wheel = house / "midge-0.1.0-py3-none-any.whl"
    if damage == "wheel":
        wheel.write_bytes(wheel.read_bytes() + b"\0")
    elif damage == "missing":
        wheel.unlink()
    else:
        (house / "SHA256SUMS").unlink()
    bundle = write_bundle(tmp_path)
    boot = mounted(tmp_path / "bootfs")
    arguments = ("--boot", str(boot), "--wheelhouse", str(house), "--bundle", str(bundle))
    assert (
        "midge wheelhouse makes one" in (said := refused(monkeypatch, capsys, *arguments)) or "anew" in said
    )
    assert not (boot / "midge").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name\npi-1\n", "id among them"),
        ("id\n", "no devices are in it"),
        ("id\npi-1\npi-1\n", "device pi-1 is there twice"),
        ("id\n../pi-1\n", "is no device's id"),
        ("id\npi-9\n", "is no bundle"),
        ("id\nrenamed\n", "is the bundle of pi-2, not of renamed"),
    ],
    ids=["no-column", "empty", "twice", "elsewhere", "no-bundle", "renamed"],
)
def test_a_wrong_list_is_refused_before_the_first_card(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wheelhouse: Path,
    tmp_path: Path,
    text: str,
    why: str,
) -> None:
    write_bundle(tmp_path / "devices")
    write_bundle(tmp_path / "devices", "pi-2").rename(tmp_path / "devices/renamed")
    (tmp_path / "list.csv").write_text(text)
    boot = mounted(tmp_path / "bootfs")
    many = ("--csv", str(tmp_path / "list.csv"), "--bundles", str(tmp_path / "devices"))
    arguments = ("--boot", str(boot), "--wheelhouse", str(wheelhouse), *many)
    assert why in refused(monkeypatch, capsys, *arguments)
    assert not (boot / "midge").exists()


WORDS = st.lists(st.from_regex(r"[a-z][a-z0-9_.,=;-]{0,12}", fullmatch=True), max_size=8)


@given(WORDS)
def test_a_command_line_keeps_its_words_in_one_line(words: list[str]) -> None:
    line = with_instance(with_memory_limits(" ".join(words)), "midge-pi-1")
    kept = [
        word
        for word in words
        if not word.startswith(("cgroup_enable=memory", "cgroup_disable=memory", "ds="))
    ]
    assert [word for word in line.split() if word in kept] == kept
    assert line.split().count("cgroup_enable=memory") == 1
    assert line.count("\n") == 1
    assert with_instance(with_memory_limits(line), "midge-pi-1").split()[-1] == "ds=nocloud;i=midge-pi-1"
