"""Packages: the wheel that is handed on, what is in a Debian package, and what recipes of containers name."""

import re
import shlex
import subprocess
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path
from string import Template

import pytest

from deploy.package import deb
from deploy.package.wheel import PACKAGES, write_wheel
from deploy.units.catalogue import SERVICES, unit_text

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RECIPES = sorted((ROOT / "deploy/package").glob("*.Containerfile"))
INSTRUCTIONS = {"FROM", "COPY", "RUN", "ENV", "USER", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"}

needs_dpkg = pytest.mark.skipif(
    not Path("/usr/bin/dpkg-deb").exists(), reason="Debian's packages are built on Debian"
)


def test_a_wheel_of_the_same_code_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = write_wheel(tmp_path / "one"), write_wheel(tmp_path / "two")
    assert one.name == two.name == f"midge-{distribution('midge').version}-py3-none-any.whl"
    assert one.read_bytes() == two.read_bytes()


def test_the_wheel_holds_all_packages_and_what_lies_beside_their_code(tmp_path: Path) -> None:
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == set(PACKAGES)
    with zipfile.ZipFile(write_wheel(tmp_path)) as wheel:
        names = wheel.namelist()
        (metadata,) = (wheel.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert {
        "edge_agent/main.py",
        "host/py.typed",
        "deploy/units/install.sh",
        "deploy/units/midge-agent.service",
    } <= {*names}
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]
    assert Parser().parsestr(metadata)["Name"] == "midge"


@needs_dpkg
@pytest.mark.parametrize("name", ["aggregator", "registrar"])
def test_the_package_of_a_service_holds_its_installer_and_little_else(tmp_path: Path, name: str) -> None:
    built = deb.build_installer(tmp_path, name)
    told = subprocess.check_output(["/usr/bin/dpkg-deb", "--info", built], text=True)
    assert f" Package: midge-{name}\n" in told
    assert "python3-venv" in told
    listed = subprocess.check_output(["/usr/bin/dpkg-deb", "--contents", built], text=True).splitlines()
    files = {line.split()[5][1:]: line.split()[:2] for line in listed if not line.startswith("d")}
    assert f"/usr/share/midge-{name}/install.sh" in files
    assert f"/usr/share/midge-{name}/midge-{name}.service" in files
    assert {owner for _, owner in files.values()} == {"root/root"}
    assert built.stat().st_size < 2_000_000


@pytest.mark.parametrize("machine", deb.MACHINES)
@pytest.mark.parametrize("python", deb.RELEASES)
def test_an_agent_s_package_is_for_one_machine_and_one_python(machine: str, python: str) -> None:
    options = deb.Target(machine, python).pip_options()
    assert f"--python-version={python}" in options
    assert all(
        machine_name in option
        for option in options
        if "platform" in option
        for machine_name in [deb.MACHINES[machine]]
    )


def test_nothing_follows_the_last_minor_version_of_a_python() -> None:
    assert deb.Target("arm64", "3.13").next_python() == "3.14"


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "deploy/package/debian").iterdir()))
def test_scripts_of_packages_are_whole_and_parse(script: str) -> None:
    text = (ROOT / "deploy/package/debian" / script).read_text()
    if not text.startswith("#!/bin/sh"):
        return
    words = {"program": "opt/midge", "version": "1", "unit": "u", "settings": "/etc/midge", "service": "s"}
    filled = Template(text).substitute(words)
    assert subprocess.run(["/bin/sh", "-n"], input=filled, text=True, check=False).returncode == 0


@pytest.mark.skipif(not Path("/usr/bin/systemctl").exists(), reason="systemd is not installed")
def test_a_removed_agent_is_not_started_at_boot_even_where_systemd_did_not_run(tmp_path: Path) -> None:
    root, unit, programs = tmp_path / "root", SERVICES["agent"].unit, tmp_path / "bin"
    systemctl = ["/usr/bin/systemctl", f"--root={root}"]
    (root / "usr/lib/systemd/system").mkdir(parents=True)
    (root / "usr/lib/systemd/system" / unit).write_text(unit_text(SERVICES["agent"]))
    subprocess.run([*systemctl, "enable", "--quiet", unit], check=True)
    started = root / "etc/systemd/system/multi-user.target.wants" / unit
    assert started.is_symlink()
    programs.mkdir()
    (programs / "systemctl").write_text(f'#!/bin/sh\nexec {shlex.join(systemctl)} "$@"\n')
    (programs / "systemctl").chmod(0o755)
    words = {"program": tmp_path.as_posix()[1:], "version": "none", "unit": unit}
    prerm = Template((ROOT / "deploy/package/debian/agent.prerm").read_text()).substitute(words)
    search = {"PATH": f"{programs}:/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-s", "remove"], input=prerm, text=True, env=search, check=True)
    assert not started.is_symlink()


def instructions(recipe: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", recipe.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


@pytest.mark.parametrize("recipe", [path.name for path in RECIPES])
def test_a_container_s_recipe_names_what_is_there(recipe: str) -> None:
    steps = instructions(ROOT / "deploy/package" / recipe)
    assert {word for word, _ in steps} <= INSTRUCTIONS
    copied = [shlex.split(rest) for word, rest in steps if word == "COPY" and not rest.startswith("--from")]
    sources = {source for *sources, _ in copied for source in sources}
    assert all((ROOT / source).exists() for source in sources)
    # What the build reads: all packages, and the files that pyproject.toml names.
    project = PROJECT["project"]
    assert sources == {*PACKAGES, "pyproject.toml", project["readme"], *project["license-files"]}


@pytest.mark.parametrize("recipe", [path.name for path in RECIPES])
def test_a_container_runs_its_service_as_nobody_in_particular(recipe: str) -> None:
    service = SERVICES[recipe.removesuffix(".Containerfile")]
    steps = instructions(ROOT / "deploy/package" / recipe)
    said = dict(steps)
    assert said["USER"].isdigit()
    assert f"/bin/{service.command}" in said["ENTRYPOINT"]
    assert service.command in PROJECT["project"]["scripts"]
    assert f"{service.settings}/{service.name}.toml" in said["CMD"]
    (installed,) = (rest for word, rest in steps if word == "RUN" and "pip install" in rest)
    assert f"/source{service.extras}" in installed
