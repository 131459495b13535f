"""What systemd itself says of the units, without running them: syntax, and what they reach."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.units.catalogue import SERVICES, Service, unit_text
from edge_agent.settings import AgentSettings
from edge_agent.training import INSPECT_S
from host.exits import ExitCode
from tests.deploy.home.federation import enrolled, make_home

ANALYZE = shutil.which("systemd-analyze")
# Tenths, as systemd-analyze rates exposure: 0 is locked away, 10 is free.
MOST_EXPOSED = {"agent": 15, "aggregator": 20, "registrar": 20, "broker": 20}

needs_systemd = pytest.mark.skipif(
    ANALYZE is None, reason="systemd-analyze is not installed: sh deploy/bootstrap/systemd.sh"
)


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> Service:
    return SERVICES[request.param]


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run(
        [ANALYZE, *arguments, "--no-pager"], capture_output=True, text=True, check=False, timeout=60
    )


def values(service: Service, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit_text(service), re.MULTILINE)


@needs_systemd
def test_systemd_finds_nothing_to_warn_of(service: Service, tmp_path: Path) -> None:
    (folder := tmp_path / "etc/systemd/system").mkdir(parents=True)
    (folder / service.unit).write_text(unit_text(service))
    # What is started has to be there; the targets are those of any Debian.
    for path in ("/usr/lib/systemd/system", "/lib/systemd/system"):
        if Path(path).is_dir() and not (tmp_path / path[1:]).exists():
            shutil.copytree(path, tmp_path / path[1:], symlinks=True)
    for start in values(service, "Exec(?:Start|Reload)"):
        program = tmp_path / start.split()[0][1:]
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    found = analyze("verify", f"--root={tmp_path}", "--man=no", service.unit)
    ours = [line for line in (found.stdout + found.stderr).splitlines() if "midge" in line]
    assert (ours, found.returncode) == ([], 0), found.stderr


@needs_systemd
def test_a_service_reaches_little_of_the_machine(service: Service, tmp_path: Path) -> None:
    (tmp_path / service.unit).write_text(unit_text(service))
    limit = MOST_EXPOSED[service.name]
    found = analyze("security", "--offline=true", f"--threshold={limit}", tmp_path / service.unit)
    assert found.returncode == 0, found.stdout


def test_a_service_is_restarted_for_ever_but_not_on_wrong_settings(service: Service) -> None:
    assert values(service, "Restart") == ["always"]
    assert values(service, "StartLimitIntervalSec") == ["0"]
    (prevented,) = values(service, "RestartPreventExitStatus")
    expected = {
        "agent": {ExitCode.BAD_CONFIG},
        "aggregator": {ExitCode.BAD_CONFIG, ExitCode.ANOTHER_AGGREGATOR},
        "registrar": {ExitCode.BAD_CONFIG},
        # Mosquitto's own, for settings that it cannot read.
        "broker": {3},
    }
    assert {int(status) for status in prevented.split()} == expected[service.name]


def test_what_newer_versions_know_is_not_in_the_units(service: Service) -> None:
    """Systemd 252 warns of these; they stand in backoff.conf, for who is newer."""
    assert values(service, "RestartSteps") == values(service, "RestartMaxDelaySec") == []


def test_training_gives_way_to_the_device_s_own_work() -> None:
    agent = SERVICES["agent"]
    assert int(values(agent, "CPUWeight")[0]) < 100
    assert values(agent, "IOSchedulingClass") == ["idle"]
    assert values(agent, "MemoryMax") == ["75%"]
    assert values(agent, "OOMPolicy") == ["continue"]


def test_the_agent_may_look_at_its_data_before_it_is_ready() -> None:
    agent = SERVICES["agent"]
    assert float(values(agent, "TimeoutStartSec")[0]) > INSPECT_S
    (state,) = values(agent, "StateDirectory")
    assert Path("/var/lib", state) == AgentSettings.model_fields["state_folder"].default


def test_the_agent_is_handed_each_file_of_a_bundle_and_none_has_to_be_there(tmp_path: Path) -> None:
    agent = SERVICES["agent"]
    loaded = dict(value.split(":") for value in values(agent, "LoadCredential"))
    assert {name: f"{agent.settings}/{name}" for name in loaded} == loaded
    optional = {value.split(":")[0] for value in values(agent, "SetCredential")}
    assert loaded.keys() - optional == {"agent.toml"}
    home = make_home(tmp_path / "home")
    enrolled(home, "pi-1")
    assert {path.name for path in (home.devices / "pi-1").iterdir()} <= loaded.keys()


@pytest.mark.parametrize("name", ["agent", "aggregator"])
def test_what_a_unit_starts_takes_its_arguments(name: str, tmp_path: Path) -> None:
    """It complains of the settings file, which is not there, and not of the command line."""
    (start,) = values(SERVICES[name], "ExecStart")
    program, *arguments = start.replace("${CREDENTIALS_DIRECTORY}", str(tmp_path)).split()
    command = [str(Path(sys.executable).with_name(Path(program).name)), *arguments]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == ExitCode.BAD_CONFIG
    assert "cannot be read: No such file" in told.stderr


@needs_systemd
@pytest.mark.parametrize("name", ["midge-first-boot.service", "midge-versions.service"])
def test_systemd_finds_nothing_to_warn_of_in_what_a_card_brings(name: str, tmp_path: Path) -> None:
    unit = Path(__file__).parents[2] / "deploy/card/device" / name
    shutil.copy(unit, tmp_path)
    # On the machine that verifies, it is not there.
    text = (tmp_path / name).read_text().replace("/opt/midge/bin/midge-versions", "/bin/sh")
    (tmp_path / name).write_text(text)
    found = analyze("verify", "--man=no", tmp_path / name)
    ours = [line for line in (found.stdout + found.stderr).splitlines() if "midge" in line]
    assert (ours, found.returncode) == ([], 0), found.stderr
