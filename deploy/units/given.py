"""What each service gets of a federation's home."""

import pwd
import re
from pathlib import Path

from deploy.home.create import broker_texts
from deploy.home.home import Home
from deploy.pki.authority import CRL
from deploy.units.catalogue import Service
from deploy.units.payload import Given, read_files
from host.errors import ConfigError

BROKER_FILES = ("ca.crt", "broker.crt", "broker.key", "accounts", "viewers", "tokens")
BROKER_STATE = Path("/var/lib/midge-broker")
# What systemd neither splits nor expands.
PLAIN_PATH = re.compile(r"[\w./@+,=-]+")
# Certificates and tokens are kept where `midge enroll` and `midge revoke` keep them, too.
IN_PLACE = """\
# The registrar works in the federation's home, as its owner.
[Service]
DynamicUser=no
User={owner}
ProtectHome=tmpfs
BindPaths={paths}
ExecStart=
ExecStart=/opt/midge-registrar/current/bin/midge registrar --config {settings}
"""


def from_home(service: Service, folder: Path, host: str | None) -> Given:
    """The files of a home that a service needs; raises ConfigError."""
    home = Home.open(folder)
    if service.name == "broker":
        return Given(_broker_files(home))
    if service.name == "registrar":
        return _in_place(home, host)
    return Given(read_files(home.root / service.name, f"{service.name}.toml"))


def _broker_files(home: Home) -> dict[str, bytes]:
    # They name each other by their paths, which are others on the broker's machine.
    texts = broker_texts(home, Path("/etc/midge/broker"), BROKER_STATE)
    copies = {name: _content(home.broker / name) for name in BROKER_FILES}
    # The authority knows who is revoked, whatever broker was told: an older list would let them in again.
    copies["crl.pem"] = _content(home.pki / CRL)
    return copies | {name: text.encode() for name, text in texts.items()}


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise ConfigError(f"{path} is missing: midge init makes it")
    return path.read_bytes()


def _in_place(home: Home, host: str | None) -> Given:
    if host is not None:
        raise ConfigError(f"the registrar works in the home: run midge install registrar on {host}")
    settings = home.root / "registrar" / "registrar.toml"
    if not settings.is_file():
        raise ConfigError(f"{settings} is missing: midge init makes it")
    if not PLAIN_PATH.fullmatch(str(home.root)):
        raise ConfigError(f"{home.root}: a unit names no such path: letters, digits, hyphens and dots only")
    owner = pwd.getpwuid(home.root.stat().st_uid).pw_name
    paths = " ".join(str(path) for path in (home.pki, settings.parent))
    return Given(
        drop_in=IN_PLACE.format(owner=owner, paths=paths, settings=settings), about={"needed": str(settings)}
    )
