"""Debian packages: `python -m deploy.package.deb agent --arch arm64 --python 3.13`, or `make deb`.

The agent's holds all that it needs but Python, for one machine and one Python. Those of aggregator and
registrar hold the installer of `midge install`, and fetch the rest when they are configured: TensorFlow alone
would be half a gigabyte. Nothing is compiled, so any Debian can build for any machine.

Source: https://www.debian.org/doc/debian-policy/
"""

import argparse
import gzip
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

from deploy.card import wheelhouse
from deploy.package.wheel import write_wheel
from deploy.units.catalogue import BACKOFF, RESOURCES, SERVICES, Service, unit_text
from deploy.units.payload import Given, write_payload
from host.errors import ChildError, ConfigError
from host.exits import ExitCode

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Debian 12's, and 13's, which has a systemd that knows backoff.conf.
RELEASES = {"3.11": "deb12", "3.13": "deb13"}
SCRIPTS = files(__package__) / "debian"
# The same content shall be the same package.
EPOCH = "1700000000"
BUILD_S = 1800


# The same in each version: between unpacking and configuring, `current` leads to what is there.
VERSION = "debian"
PROGRAM = f"opt/midge/versions/{VERSION}"
AGENT_WORDS = {"program": PROGRAM, "version": VERSION}


@dataclass(frozen=True)
class Target:
    """For which machine, and for which Python."""

    machine: str
    python: str

    def pip_options(self) -> list[str]:
        """Have pip choose wheels for the target instead of this machine."""
        return wheelhouse.Target(self.python, MACHINES[self.machine]).options()

    def next_python(self) -> str:
        """The first Python that the package does not fit."""
        major, _, minor = self.python.partition(".")
        return f"{major}.{int(minor) + 1}"


def build_agent(output: Path, target: Target) -> Path:
    """Build midge-agent_VERSION_ARCH.deb; raises ChildError with what pip or dpkg-deb say."""
    service = SERVICES["agent"]
    revision = f"{version('midge')}+{RELEASES[target.python]}"
    with tempfile.TemporaryDirectory(prefix="midge-deb-") as name:
        root = Path(name) / "root"
        lib = root / PROGRAM / "lib"
        wheel = write_wheel(Path(name))
        _run([sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile",
              "--disable-pip-version-check", "--only-binary=:all:", "--target", str(lib),
              *target.pip_options(), str(wheel)])  # fmt: skip
        # Scripts of the building machine's Python; ours is below.
        shutil.rmtree(lib / "bin", ignore_errors=True)
        _write(root / PROGRAM / "bin/midge-agent", _script("midge-agent", program=PROGRAM), 0o755)
        _write(root / "usr/lib/systemd/system" / service.unit, unit_text(service))
        if target.python != min(RELEASES):
            backoff = f"usr/lib/systemd/system/{service.unit}.d/{BACKOFF}"
            _write(root / backoff, (RESOURCES / BACKOFF).read_text())
        python = f"python3 (>= {target.python}), python3 (<< {target.next_python()}~)"
        depends = f"{python}, libc6, libstdc++6, libgcc-s1"
        control = _control(service, revision, target.machine, depends)
        return _build(root, service, control, output, AGENT_WORDS)


def build_installer(output: Path, name: str) -> Path:
    """Build midge-NAME_VERSION_all.deb, which makes its virtual environment when it is configured."""
    service = SERVICES[name]
    with tempfile.TemporaryDirectory(prefix="midge-deb-") as folder:
        root = Path(folder) / "root"
        program = f"usr/share/midge-{name}"
        payload = root / program
        payload.mkdir(parents=True)
        write_payload(service, payload, Given())
        depends = "python3 (>= 3.11), python3-venv, ca-certificates"
        control = _control(service, version("midge"), "all", depends)
        return _build(root, service, control, output, {"program": program, "service": name})


def _control(service: Service, revision: str, machine: str, depends: str) -> dict[str, str]:
    what = unit_text(service).split("Description=midge ", 1)[1].splitlines()[0]
    return {
        "Package": f"midge-{service.name}",
        "Version": revision,
        "Architecture": machine,
        "Maintainer": "midge <midge@localhost>",
        "Depends": depends,
        "Section": "net",
        "Priority": "optional",
        "Description": f"federated learning over MQTT: {what.partition(',')[0]}\n"
        f" A service of systemd, whose settings lie in {service.settings}.",
    }


def _build(
    root: Path, service: Service, control: dict[str, str], output: Path, words: dict[str, str]
) -> Path:
    package, revision, machine = control["Package"], control["Version"], control["Architecture"]
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) // 1024
    fields = control | {"Installed-Size": str(size)}
    lines = [f"{key}: {value}\n" for key, value in fields.items() if key != "Description"]
    _write(root / "DEBIAN/control", "".join(lines) + f"Description: {fields['Description']}\n")
    kind = "agent" if service.name == "agent" else "installer"
    for step in ("postinst", "prerm", "postrm"):
        _write(
            root / "DEBIAN" / step,
            _script(f"{kind}.{step}", unit=service.unit, settings=service.settings, **words),
            0o755,
        )
    documents = root / "usr/share/doc" / package
    _write(documents / "copyright", (SCRIPTS / "copyright").read_text())
    since = f" -- {control['Maintainer']}  Tue, 14 Nov 2023 22:13:20 +0000"
    changes = f"{package} ({revision}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n{since}\n"
    (documents / "changelog.gz").write_bytes(gzip.compress(changes.encode(), mtime=0))
    if kind == "agent":
        _write(root / "usr/share/lintian/overrides" / package, (SCRIPTS / "agent.overrides").read_text())
    for path in root.rglob("*"):
        runs = path.parent.name in {"bin", "DEBIAN"} and path.name != "control"
        path.chmod(0o755 if path.is_dir() or runs else 0o644)
    output.mkdir(parents=True, exist_ok=True)
    built = output / f"{package}_{revision}_{machine}.deb"
    _run(
        [
            "env",
            f"SOURCE_DATE_EPOCH={EPOCH}",
            "dpkg-deb",
            "--root-owner-group",
            "-Zxz",
            "--build",
            str(root),
            str(built),
        ]
    )
    return built


def _script(script: str, **words: str) -> str:
    return Template((SCRIPTS / script).read_text()).substitute(words)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _run(command: Sequence[str]) -> None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_S)  # noqa: S603 - no shell
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename} is not installed: packages are built on Debian") from None
    if ended.returncode:
        raise ChildError(f"{command[0]} failed: {ended.stderr.strip()[-2000:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build one package and print its path."""
    parser = argparse.ArgumentParser("deploy.package.deb", description="Builds a Debian package.")
    parser.add_argument("service", choices=[name for name, service in SERVICES.items() if service.folder])
    parser.add_argument("--arch", choices=MACHINES, default="arm64", help="of an agent")
    parser.add_argument("--python", choices=RELEASES, default="3.13", help="of an agent's Debian")
    parser.add_argument("--output", type=Path, default=Path("dist"))
    given = parser.parse_args(arguments)
    if given.service == "agent":
        built = build_agent(given.output, Target(given.arch, given.python))
    else:
        built = build_installer(given.output, given.service)
    sys.stdout.write(f"{built}\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
