"""A whole federation put in place by the installer on a machine where systemd runs, and taken away again."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from broker.control import Request, Verb
from broker.topics import Role
from deploy.command.control import ask
from deploy.home.home import Home
from deploy.units.catalogue import INSTALLER, SERVICES
from deploy.units.given import from_home
from deploy.units.payload import Given, read_files, write_payload
from tests.deploy.home.federation import enrolled, local, make_home
from tests.system.lab import KERAS_TASK, write_examples
from tests.system.pid1 import Systemd, program, why_not

REASON = why_not() or ("" if shutil.which("mosquitto", path="/usr/sbin") else "mosquitto is not Debian's")
AGENT, AGGREGATOR, BROKER = "midge-agent.service", "midge-aggregator.service", "midge-broker.service"
REGISTRAR = "midge-registrar.service"
MODULES = {"agent": "edge_agent.main", "aggregator": "aggregator.main", "registrar": "deploy.command.entry"}
RUN_S = 60.0
# Where the registrar finds the home, which lies in a folder that its sandbox hides.
HOME = "/srv/home"
BROKEN = "#!/bin/sh\nexit 1\n"

pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(240)]


def put_payload(machine: Systemd, folder: Path, name: str, given: Given) -> None:
    """What `midge install` carries, and instead of a program of its own this tree's."""
    service, payload = SERVICES[name], folder / name
    payload.mkdir()
    write_payload(service, payload, given)
    for path in payload.rglob("*"):
        if path.is_file() and path.suffix != ".whl":
            machine.copy(path, f"/srv/{name}/{path.relative_to(payload)}")
    about = dict(line.split("=", 1) for line in (payload / "about").read_text().splitlines())
    if service.folder:
        version = f"{service.folder}/versions/{about['version']}"
        machine.put(f"{version}/.complete", "")
        machine.put(f"{version}/bin/{service.command}", program(MODULES[name]), 0o755)
    machine.log_to_file(service.unit)


def installed(machine: Systemd, name: str, verb: str = "install", *options: str) -> str:
    ended = machine.run("sh", f"/srv/{name}/{INSTALLER}", verb, *options)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def prepared(home: Home, machine: Systemd, folder: Path) -> Mapping[str, Given]:
    """The home with a task and a device, as their operator would."""
    task = home.root / "aggregator" / KERAS_TASK.name
    shutil.copy(KERAS_TASK, task)
    with (home.root / "aggregator/aggregator.toml").open("a") as settings:
        settings.write(f'\n[tasks.blobs]\nfile = "{task.name}"\n')
    write_examples(folder / "data.npz", 60, seed=1)
    machine.copy(folder / "data.npz", "/srv/midge/examples.npz")
    enrolled(home, "pi-1")
    return {
        "broker": from_home(SERVICES["broker"], home.root, None),
        "aggregator": from_home(SERVICES["aggregator"], home.root, None),
        "agent": Given(read_files(home.devices / "pi-1", "agent.toml")),
        "registrar": moved(home, machine),
    }


def moved(home: Home, machine: Systemd) -> Given:
    """What the registrar gets where the home is moved to HOME."""
    for folder in (home.pki, home.root / "registrar"):
        for path in folder.iterdir():
            machine.copy(path, f"{HOME}/{folder.name}/{path.name}")
    given = from_home(SERVICES["registrar"], home.root, None)
    about = {key: value.replace(str(home.root), HOME) for key, value in given.about.items()}
    return replace(given, drop_in=given.drop_in.replace(str(home.root), HOME), about=about)


def test_a_federation_is_installed_trains_is_left_alone_and_taken_away(tmp_path: Path) -> None:
    home, machine = make_home(tmp_path / "home"), Systemd(tmp_path / "machine")
    for name, given in prepared(home, machine, tmp_path).items():
        put_payload(machine, tmp_path, name, given)
    machine.put("/srv/broken/systemctl", BROKEN, 0o755)
    with machine:
        for name in ("broker", "aggregator", "registrar", "agent"):
            installed(machine, name)
        for unit in (AGGREGATOR, REGISTRAR, AGENT):
            machine.until(unit, "StatusText", "connected")
        until_trained(home)

        processes = {unit: machine.show(unit, "MainPID") for unit in (BROKER, AGGREGATOR, REGISTRAR, AGENT)}
        for name in ("broker", "aggregator", "registrar", "agent"):
            assert installed(machine, name) == "  nothing to do\n"
        # A new list of accounts is read by the broker that runs.
        machine.run("sh", "-c", "echo >>/srv/broker/files/tokens")
        assert "systemctl reload" in installed(machine, "broker")
        assert processes == {unit: machine.show(unit, "MainPID") for unit in processes}

        # What was cut short before systemd was told of it goes on, though no file differs any more.
        machine.run("sh", "-c", f"echo '# newer' >>/srv/agent/{AGENT}")
        assert machine.run("sh", "-c", f"PATH=/srv/broken:$PATH sh /srv/agent/{INSTALLER} install").returncode
        assert machine.show(AGENT, "MainPID") == processes[AGENT]
        assert "systemctl restart" in installed(machine, "agent")
        assert machine.run("find", "/run", "-name", "*.unfinished").stdout == ""

        for name in ("agent", "aggregator", "registrar", "broker"):
            installed(machine, name, "uninstall", "--purge")
        left = machine.run(
            "find", "/etc/midge", "/opt/midge", "/var/lib/private", "/etc/systemd/system", "-name", "*midge*"
        )
        assert {Path(line).name for line in left.stdout.splitlines()} <= {"midge"}
        assert machine.show(AGENT, "LoadState") == "not-found"


def until_trained(home: Home) -> None:
    """Train a round, as the operator."""
    operator = local(home, Role.OPERATOR)
    started = ask(
        operator,
        Request(id=os.urandom(8).hex(), verb=Verb.START, task="blobs", settings={"rounds": 1}),
        RUN_S,
    )
    assert started.ok, started.text
    deadline = time.monotonic() + RUN_S
    while True:
        (run,) = ask(operator, Request(id=os.urandom(8).hex(), verb=Verb.RUNS), RUN_S).runs
        if run.state == "finished":
            return
        assert time.monotonic() < deadline, run
        time.sleep(0.2)
