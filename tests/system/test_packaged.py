"""The agent's Debian package as dpkg handles it where systemd runs: installed, upgraded, removed, purged."""

from pathlib import Path

import pytest

from deploy.package import deb
from deploy.units.catalogue import SERVICES, unit_text
from tests.system.pid1 import Systemd, why_not

REASON = why_not() or ("" if Path("/usr/bin/dpkg-deb").exists() else "Debian's packages are built on Debian")
AGENT = SERVICES["agent"]
COMMAND = "/opt/midge/current/bin/midge-agent"

pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(240)]


def packed(folder: Path, revision: str) -> Path:
    """A package whose program says its revision, by a module of the same size and date in each."""
    root = folder / revision
    module = root / deb.PROGRAM / "lib/edge_agent/main.py"
    deb._write(module, f"print({revision!r})\n")
    deb._write(module.with_name("__init__.py"), "")
    deb._write(root / deb.PROGRAM / "bin/midge-agent", deb._script("midge-agent", program=deb.PROGRAM))
    deb._write(root / "usr/lib/systemd/system" / AGENT.unit, unit_text(AGENT))
    control = deb._control(AGENT, revision, "all", "libc6")
    return deb._build(root, AGENT, control, folder / "dist", deb.AGENT_WORDS)


def test_an_agent_is_there_at_each_step_of_an_upgrade_and_gone_when_it_is_removed(tmp_path: Path) -> None:
    machine = Systemd(tmp_path / "machine")
    for revision in ("1.0", "2.0"):
        machine.copy(packed(tmp_path, revision), f"/srv/{revision}.deb")
    machine.put("/etc/midge/device.key", "secret", 0o600)

    def dpkg(*arguments: str) -> None:
        ended = machine.run("dpkg", *arguments)
        assert ended.returncode == 0, ended.stderr

    with machine:
        dpkg("--install", "/srv/1.0.deb")
        assert machine.run(COMMAND).stdout == "1.0\n"
        assert machine.systemctl("is-enabled", AGENT.unit) == "enabled\n"
        # Here the power may go, and a boot starts what is there.
        dpkg("--unpack", "/srv/2.0.deb")
        assert machine.run(COMMAND).stdout == "2.0\n"
        dpkg("--configure", "--pending")
        assert machine.run(COMMAND).stdout == "2.0\n"
        dpkg("--remove", "midge-agent")
        assert machine.run("ls", "/opt/midge", "/usr/local/bin/midge-agent").stdout == ""
        assert "not-found" in machine.systemctl("is-enabled", AGENT.unit) + machine.show(
            AGENT.unit, "LoadState"
        )
        assert machine.run("cat", "/etc/midge/device.key").stdout == "secret"
        dpkg("--purge", "midge-agent")
        assert machine.run("ls", "/etc/midge").stdout == ""
