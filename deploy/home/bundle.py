"""Bundles: a folder for each device with all that its agent needs to join."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.home.home import Home
from deploy.home.starter import starter
from deploy.pki.authority import ROOT, Authority
from edge_agent.settings import AgentSettings
from host.certificates import new_key, request
from host.errors import ConfigError
from host.files import write_atomic, write_secret
from host.settings import load_settings

AGENT, CA, CERTIFICATE, KEY = "agent.toml", "ca.crt", "device.crt", "device.key"
# Where the examples of most devices are not: whoever enrols a device knows better, or mends agent.toml.
DATA = {"data.kind": "npz", "data.path": "/srv/midge/examples.npz"}


def agent_settings(home: Home, device: str, chosen: Mapping[str, object]) -> AgentSettings:
    """A device's settings; `chosen` has dotted keys. Raises ConfigError."""
    given = {
        **(DATA if "data.kind" not in chosen else {}),
        **chosen,
        "device": device,
        "aggregator_key": home.aggregator_key(),
    }
    broker = _device_broker(home).model_dump(mode="json", exclude_defaults=True)
    values = {**{f"broker.{key}": value for key, value in broker.items()}, **given}
    try:
        return load_settings(AgentSettings, None, values, {})
    except ConfigError as error:
        faults = str(error).replace("--set: ", "").replace("without --config: ", "")
        raise ConfigError(f"device {device}: {faults}") from None


def check_new(home: Home, device: str) -> None:
    """Raise ConfigError when a bundle of this device is there."""
    if (home.devices / device).exists():
        raise ConfigError(
            f"{home.devices / device} is there already: remove it first if the device is to have another "
            "key and certificate"
        )


def enrol(home: Home, authority: Authority, settings: AgentSettings) -> Path:
    """Make a device's key and certificate, and put its bundle in place, whole; raises ConfigError."""
    device = settings.device
    check_new(home, device)
    key = new_key()
    certificate = authority.sign(device, Role.DEVICE, request(key, device))
    home.devices.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f".{device}.", dir=home.devices))
    try:
        write_secret(folder / KEY, key)
        write_atomic(folder / CERTIFICATE, certificate)
        write_atomic(folder / CA, (home.pki / ROOT).read_bytes())
        write_atomic(folder / AGENT, starter(settings, f"The agent of {device}.").encode())
        folder.rename(home.devices / device)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return home.devices / device


def _device_broker(home: Home) -> BrokerSettings:
    federation = home.federation
    return BrokerSettings(
        url=federation.url(federation.ports.devices),
        ca_file=Path(CA),
        certificate_file=Path(CERTIFICATE),
        key_file=Path(KEY),
        prefix=federation.prefix,
        federation=federation.name,
    )
