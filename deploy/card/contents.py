"""What a card gets: the agent's offline installation, one device's bundle, and the way to start it all."""

import hashlib
import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from broker.names import ID_PATTERN
from deploy.card import cloud
from deploy.card.cmdline import with_instance, with_memory_limits
from deploy.card.partition import Content
from deploy.card.wheelhouse import SUMS, Wheelhouse
from deploy.units.catalogue import BACKOFF, RESOURCES, SERVICES, unit_text
from host.errors import ConfigError
from host.files import file_digest

PAYLOAD = "midge"
AGENT = SERVICES["agent"]
CMDLINE, VENDOR_DATA = "cmdline.txt", "vendor-data"
USER_DATA, META_DATA, NETWORK = "user-data", "meta-data", "network-config"
SETTINGS = "agent.toml"
# Of these a bundle has one or the other: a key of its own, or a token that a key is vouched for by.
SECRETS = ("device.key", "token")
MAX_BUNDLE_FILES, MAX_BUNDLE_BYTES = 16, 1 << 20
ON_DEVICE = ("first-boot.sh", "midge-first-boot.service", "midge-versions", "midge-versions.service")
# Erased with the bundle: it holds the key of a wireless network.
ERASE_NETWORK = f"{PAYLOAD}/erase-network"
# Two cards of one device differ in it: a bundle that was erased is never waited for again.
WHICH_CARD = f"{PAYLOAD}/ID"


@dataclass(frozen=True)
class Device:
    """One device's bundle, as `midge enroll` makes it."""

    id: str
    bundle: Mapping[str, bytes]


def read_bundle(folder: Path) -> Device:
    """Read a bundle; raises ConfigError for what is none."""
    if not (folder / SETTINGS).is_file():
        raise ConfigError(f"{folder} is no bundle: it has no {SETTINGS}; midge enroll makes one")
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    if len(paths) > MAX_BUNDLE_FILES or sum(path.stat().st_size for path in paths) > MAX_BUNDLE_BYTES:
        raise ConfigError(f"{folder} is no bundle: it holds more than settings, certificates and a key")
    bundle = {path.name: path.read_bytes() for path in paths}
    if not any(name in bundle for name in SECRETS):
        raise ConfigError(f"{folder}: has neither {' nor '.join(SECRETS)}; let midge enroll make it anew")
    return Device(_id(folder / SETTINGS, bundle[SETTINGS]), bundle)


def _id(path: Path, settings: bytes) -> str:
    try:
        device = tomllib.loads(settings.decode()).get("device")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no valid TOML: {error}") from None
    if not isinstance(device, str) or not re.match(ID_PATTERN, device):
        raise ConfigError(f"{path}: names no device; let midge enroll make it anew")
    return device


def card_files(
    device: Device, wheelhouse: Wheelhouse, cmdline: str, system: cloud.System | None
) -> dict[str, Content]:
    """All files of one card by name, in the order to write them; what starts the installation comes last."""
    payload: dict[str, Content] = {name: _on_device(name) for name in ON_DEVICE}
    payload |= {AGENT.unit: unit_text(AGENT).encode(), BACKOFF: (RESOURCES / BACKOFF).read_bytes()}
    payload |= {WHICH_CARD.removeprefix(f"{PAYLOAD}/"): secrets.token_hex(16).encode() + b"\n"}
    content: dict[str, Content] = {f"{PAYLOAD}/wheels/{path.name}": path for path in wheelhouse.files}
    content |= _in(PAYLOAD, payload | {SUMS: sums(payload)})
    content |= _in(f"{PAYLOAD}/bundle", {**device.bundle, SUMS: sums(device.bundle)})
    line = with_memory_limits(cmdline)
    if system is not None:
        instance = f"midge-{device.id}-{secrets.token_hex(4)}"
        line = with_instance(line, instance)
        content |= {
            USER_DATA: cloud.user_data(system),
            META_DATA: cloud.meta_data(system, instance),
            NETWORK: cloud.network_config(system.wifi),
        }
        if system.wifi is not None:
            content[ERASE_NETWORK] = b""
    return {**content, CMDLINE: line.encode(), VENDOR_DATA: _on_device(VENDOR_DATA)}


def is_our_vendor_data(content: bytes) -> bool:
    """Whether vendor data was written by us, maybe by another version."""
    return b"# midge's" in content


def sums(content: Mapping[str, Content]) -> bytes:
    """Digests as sha256sum reads them."""
    return "".join(f"{_digest(content[name])}  {name}\n" for name in sorted(content)).encode()


def _digest(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_digest(content)


def _in(folder: str, content: Mapping[str, Content]) -> dict[str, Content]:
    return {f"{folder}/{name}": part for name, part in content.items()}


def _on_device(name: str) -> bytes:
    return files("deploy.card").joinpath("device", name).read_bytes()
