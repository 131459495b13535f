"""What a card goes through: flashed, booted, robbed of its power, updated; each step is asserted."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker.control import SettingValue
from broker.mosquitto import _free_port
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.home.home import Home
from tests.deploy.home.federation import local, reload, running
from tests.flash.guest import FIRST_PARTITION, HOST, Guest, Machine
from tests.flash.image import BOOT_MIB, IMAGER_USER_DATA, MIB
from tests.system.lab import KERAS_TASK, Lab

# Emulated on a machine that others use as well: ten times what it takes on an idle one.
PATIENT_S = 1500.0
MIDGE = Path(sys.executable).with_name("midge")
INSTALLING = "ls -d /opt/midge/versions/*/lib/python3*/site-packages/numpy"
INSTALLED = "test ! -e /boot/firmware/midge && systemctl is-active midge-agent"
CONNECTED = "systemctl show --property=StatusText --value midge-agent | grep ^connected"


class Federation(Lab):
    """A home with its broker, aggregator and registrar on this machine, and devices elsewhere."""

    patience_s = PATIENT_S

    def __init__(self, home: Home) -> None:
        super().__init__(home.root, local(home, Role.OPERATOR))
        self._home = home

    def account(self, user: str) -> BrokerSettings:
        """How an account reaches the broker."""
        return local(self._home, Role(user))

    def until_live(self, device: str) -> None:
        """Wait until the aggregator hears a device."""
        self.until(lambda seen: seen.get(f"devices/{device}", {}).get("live"))

    def until_lost(self, device: str) -> None:
        """Wait until the aggregator counts a device out."""
        self.until(lambda seen: not seen.get(f"devices/{device}", {"live": True})["live"])

    def train(self, device: str, **settings: SettingValue) -> None:
        """Have a device train a round, which counts."""
        run = self.start_run(rounds=1, min_devices=1, runtime="litert", deadline_s=PATIENT_S, **settings)
        assert self.until_ended(run)["state"] == "finished"
        assert self.accepted(run, 1).keys() == {device}


def make_home(folder: Path) -> Home:
    """What `midge init` makes, on free ports."""
    folder.mkdir()
    ports = (f"{name} = {_free_port()}" for name in ("devices", "enrolment", "viewers", "local"))
    lines = ('name = "lab"', f'hosts = ["{HOST}", "127.0.0.1"]', "[ports]", *ports)
    (folder / "federation.toml").write_text("\n".join(lines) + "\n")
    midge("init", folder)
    return Home.open(folder)


def midge(*arguments: str | Path) -> str:
    """Run the command; gives what it prints."""
    return subprocess.run([MIDGE, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


@dataclass
class Course:
    """One architecture's devices, one after the other."""

    architecture: str
    cache: Path
    wheelhouse: Path
    folder: Path
    home: Home
    federation: Federation
    say: Callable[[str], None]
    updates: Path | None = None
    took: dict[str, float] = field(default_factory=dict)

    def flash(self, device: str, *enrolment: str) -> Path:
        """Enrol a device, and write its card, as an operator does."""
        midge("enroll", device, "--home", self.home.root, "--set", "data.path=/srv/data/data.npz", *enrolment)
        card = self.folder / "cards" / f"{device}.img"
        stock = self.folder / "stock.img"
        base = self.cache / f"base-{self.architecture}.img"
        subprocess.run(["/usr/bin/cp", "--sparse=always", base, stock], check=True)
        mcopy(stock, IMAGER_USER_DATA.encode(), "user-data")
        bundle = self.home.devices / device
        target = ("--image", stock, "--output", card.parent)
        midge("flash", *target, "--bundle", bundle, "--wheelhouse", self.wheelhouse)
        stock.unlink()
        assert self.on_card(card, bundle), "what is searched for has to be there at first"
        return card

    def on_card(self, card: Path, bundle: Path) -> list[str]:
        """Which secrets of a bundle the raw boot partition has, wherever in it."""
        with card.open("rb") as file:
            file.seek(FIRST_PARTITION)
            raw = file.read(BOOT_MIB * MIB)
        bodies = {path.name: body(path) for path in bundle.iterdir() if is_secret(path)}
        return [name for name, secret in bodies.items() if secret in raw]

    @contextmanager
    def boot(self, card: Path, name: str, clock: str = "utc") -> Iterator[Guest]:
        """A boot, whose power is cut at the end, unless it was shut down."""
        tools = self.cache / "tools"
        base = self.cache / f"base-{self.architecture}.img"
        disks = (self.updates,) if self.updates else ()
        guest = Guest(
            Machine(self.architecture, tools, base, card, disks, clock), self.folder / f"{name}.log"
        )
        try:
            yield guest
        finally:
            guest.cut_power()

    def done(self, step: str, began: float) -> None:
        """Note a step that went well."""
        self.took[step] = round(time.monotonic() - began)
        self.say(f"{self.architecture}: {step}: {self.took[step]} s")


def is_secret(path: Path) -> bool:
    """Whether a bundle's file must not stay on the card."""
    return path.name in {"device.key", "token"}


def body(path: Path) -> bytes:
    """A line of a secret that nothing else has: of a key in PEM, the first after its heading."""
    lines = path.read_bytes().strip().splitlines()
    return max(lines, key=len)


def mcopy(image: Path, content: bytes, name: str) -> None:
    """Put a file into an image's boot partition."""
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    command = ["/usr/bin/mcopy", "-o", "-i", f"{image}@@{FIRST_PARTITION}", "-", f"::/{name}"]
    subprocess.run(command, env=environment, input=content, check=True)


def first_boot(course: Course, card: Path) -> None:
    """A clock of 1970, and the power goes in the middle of the installation."""
    began = time.monotonic()
    with course.boot(card, "boot-1-cut", clock="1970-01-02T00:00:00") as guest:
        guest.wait_until(INSTALLING, PATIENT_S)
        assert guest.try_to_run("ls /opt/midge/versions/*/.complete")[0] != 0, "cut too late"
    course.done("power cut in the middle of the installation", began)


def join(course: Course, card: Path, device: str, name: str) -> None:
    """What is left of the installation is done, the device joins and trains, and no secret is left."""
    began = time.monotonic()
    with course.boot(card, name, clock="1970-01-02T00:00:00") as guest:
        guest.wait_until(INSTALLED, PATIENT_S)
        course.done(f"{device} installed", began)
        course.federation.until_live(device)
        course.done(f"{device} joined over TLS with its own certificate", began)
        assert guest.run("hostname; ls /var/imager-was-here").startswith("from-imager")
        modes = guest.run("stat -c '%a %U' /etc/midge/device.key /etc/midge/token 2>/dev/null; true").split(
            "\n"
        )
        assert set(modes) <= {"600 root", ""}
        began = time.monotonic()
        course.federation.train(device, epochs=2)
        course.done(f"{device} trained a round", began)
        guest.shut_down()
    assert course.on_card(card, course.home.devices / device) == []
    course.done("no secret is left on the boot partition", time.monotonic())


def cut_in_training(course: Course, card: Path, device: str) -> None:
    """The power goes in the middle of a round, which the device finishes after the next boot."""
    began = time.monotonic()
    with course.boot(card, "boot-3-cut") as guest:
        guest.wait_until(CONNECTED, PATIENT_S)
        course.federation.until_live(device)
        run = course.federation.start_run(
            rounds=1, min_devices=1, runtime="litert", deadline_s=PATIENT_S, steps=40_000, batch_size=4
        )
        course.federation.until_state(device, "training")
    course.federation.until_lost(device)
    course.done("power cut in the middle of training", began)
    began = time.monotonic()
    with course.boot(card, "boot-4") as guest:
        assert course.federation.until_ended(run)["state"] == "finished"
        assert course.federation.accepted(run, 1).keys() == {device}
        course.done("the round went on, and counts", began)
        if course.updates is not None:
            update(course, guest)
        guest.shut_down()


def update(course: Course, guest: Guest) -> None:
    """A new version is switched to, and one that does not reach the broker is left again."""
    guest.run("mkdir -p /mnt/updates && mount -o ro /dev/vdb /mnt/updates")
    began = time.monotonic()
    first = guest.run("readlink /opt/midge/current").strip()
    guest.run("midge-versions update /mnt/updates/next 600", PATIENT_S)
    second = guest.run("readlink /opt/midge/current").strip()
    assert second != first
    course.done("a new version installed, connected and kept", began)
    began = time.monotonic()
    status, said = guest.try_to_run("midge-versions update /mnt/updates/mute 60", PATIENT_S)
    assert status == 1, said
    assert "back to" in said
    assert guest.run("readlink /opt/midge/current").strip() == second
    guest.wait_until(CONNECTED, PATIENT_S)
    course.done("a broken version left again", began)


@contextmanager
def federation(home: Home) -> Iterator[tuple[Federation, "subprocess.Popen[bytes]"]]:
    """Run what a federation has on this side."""
    settings = {"MIDGE_HEARTBEAT_S": "5", "MIDGE_TASKS__BLOBS__FILE": str(KERAS_TASK)}
    with running(home) as broker, Federation(home) as lab:
        lab._start("midge-aggregator", home.of(Role.AGGREGATOR) / "aggregator.toml", "aggregator", settings)
        registrar = home.of(Role.REGISTRAR) / "registrar.toml"
        with (home.root / "registrar.log").open("wb") as log:
            service = subprocess.Popen([MIDGE, "registrar", "--config", registrar], stderr=log)
        try:
            yield lab, broker
        finally:
            service.terminate()
            service.wait()


def run_course(course: Course, broker: "subprocess.Popen[bytes]", *, whole: bool) -> None:
    """All steps of a device with a bundle; then one with a token, to whom the broker's accounts are told."""
    card = course.flash("pi-1")
    if whole:
        first_boot(course, card)
    join(course, card, "pi-1", "boot-2")
    if not whole:
        return
    cut_in_training(course, card, "pi-1")
    card.unlink()
    course.updates = None
    card = course.flash("pi-2", "--token")
    reload(course.home, broker)
    join(course, card, "pi-2", "boot-5")
