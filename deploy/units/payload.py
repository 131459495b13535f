"""What is carried to the machine that gets a service: installer, unit, wheels, files for /etc/midge."""

import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from broker.signing import CHAIN_SUFFIX
from deploy.card.wheelhouse import read_wheelhouse
from deploy.package.wheel import write_wheel
from deploy.units.catalogue import BACKOFF, INSTALLER, RESOURCES, Service, unit_text
from host.errors import ConfigError
from host.files import file_digest

HOME = "home.conf"
MAX_FILES, MAX_FILE_BYTES = 256, 8 << 20
# What a service is given; all else in a folder is its state, or somebody's notes.
SETTINGS = (".toml", ".py", ".task", ".crt", ".pem", ".key", CHAIN_SUFFIX)
SECRETS = ("password", "token")


@dataclass(frozen=True)
class Given:
    """What a service gets of its federation; without any, what is there stays as it is."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    """Named as in the service's settings folder."""
    drop_in: str = ""
    """Added to its unit."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What is otherwise than the catalogue says."""


def write_payload(service: Service, folder: Path, given: Given, wheelhouse: Path | None = None) -> None:
    """Fill an empty folder.

    Without a wheelhouse, the machine fetches what midge needs from the package index. Raises ConfigError.
    """
    for name in (INSTALLER, BACKOFF):
        (folder / name).write_bytes((RESOURCES / name).read_bytes())
    (folder / service.unit).write_text(unit_text(service))
    built = _add_wheels(folder / "wheels", wheelhouse) if service.folder else ""
    about = asdict(service) | {"unit": service.unit, "version": built} | dict(given.about)
    lines = [f"{key}={shlex.quote(value)}\n" for key, value in about.items()]
    (folder / "about").write_text("".join(lines))
    if given.drop_in:
        (folder / HOME).write_text(given.drop_in)
    for name, content in given.files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_bytes(content)


def read_files(folder: Path, settings: str) -> dict[str, bytes]:
    """Settings, certificates, keys and tasks of a folder that has a file `settings`; raises ConfigError."""
    if not (folder / settings).is_file():
        raise ConfigError(f"{folder} has no {settings}: midge init and midge enroll make such folders")
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and (path.suffix in SETTINGS or path.name in SECRETS)
    ]
    large = [path.name for path in found if path.stat().st_size > MAX_FILE_BYTES]
    if large or len(found) > MAX_FILES:
        raise ConfigError(f"{folder}: {', '.join(large) or len(found)}: more than settings; remove it")
    return {path.name: path.read_bytes() for path in found}


def _add_wheels(folder: Path, wheelhouse: Path | None) -> str:
    """Put wheels into the folder; the name of what they install, another one whenever they differ."""
    folder.mkdir()
    if wheelhouse is None:
        wheel = write_wheel(folder)
        return f"{version('midge')}-{file_digest(wheel)[:8]}"
    house = read_wheelhouse(wheelhouse)
    for file in house.files:
        shutil.copy(file, folder)
    if not any(folder.glob("midge-*.whl")):
        raise ConfigError(f"{wheelhouse} has no wheel of midge: make it anew")
    return house.version
