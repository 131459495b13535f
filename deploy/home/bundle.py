"""Bundles: a folder for each device with all that its agent needs to join."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

from broker.accounts import update_accounts
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.home.home import TOKENS, Home
from deploy.home.starter import starter
from deploy.pki.authority import Authority
from deploy.registrar.tokens import Tokens
from edge_agent.settings import AgentSettings
from host.certificates import new_key, request
from host.errors import ConfigError
from host.files import write_atomic, write_secret
from host.settings import load_settings

AGENT, CA, CERTIFICATE, KEY = "agent.toml", "ca.crt", "device.crt", "device.key"
TOKEN = "token"  # noqa: S105 - the name of a file
# Where the examples of most devices are not: whoever enrols a device knows better, or mends agent.toml.
DATA = {"data.kind": "npz", "data.path": "/srv/midge/examples.npz"}


def agent_settings(
    home: Home, device: str, chosen: Mapping[str, object], *, by_token: bool = False
) -> AgentSettings:
    """A device's settings; `chosen` has dotted keys. Raises ConfigError."""
    given = {
        **(DATA if "data.kind" not in chosen else {}),
        **(_enrolment(home) if by_token else {}),
        **chosen,
        "device": device,
        "aggregator_key": home.aggregator_key(),
    }
    broker = _device_broker(home, certified=not by_token).model_dump(mode="json", exclude_defaults=True)
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
            f"{home.devices / device} is there already: midge replace {device} gives it another key and "
            "certificate; take the folder away for a new token"
        )


def enrol(home: Home, authority: Authority, settings: AgentSettings) -> Path:
    """Make a device's key and certificate, and put its bundle in place, whole; raises ConfigError."""
    check_new(home, settings.device)
    key = new_key()
    certificate = authority.sign(settings.device, Role.DEVICE, request(key, settings.device))
    return _put(home, settings, {KEY: key, CERTIFICATE: certificate})


def enrol_by_token(home: Home, tokens: Tokens, settings: AgentSettings, lifetime_s: float) -> Path:
    """Make a token, an account on the broker for it, and a bundle, whole; raises ConfigError.

    The broker has to read its accounts again.
    """
    check_new(home, settings.device)
    now = time.time()
    token = tokens.make(settings.device, lifetime_s, now)
    update_accounts(home.broker / TOKENS, {**_closed(tokens, now), token.id: token.password})
    return _put(home, settings, {TOKEN: token.text().encode()})


def withdraw_tokens(home: Home, device: str) -> int:
    """Have no token that a device did not use yet enrol it; how many there were.

    The broker has to read its accounts again.
    """
    tokens = home.tokens()
    if withdrawn := tokens.withdraw(device):
        update_accounts(home.broker / TOKENS, _closed(tokens, time.time()))
    return withdrawn


def _closed(tokens: Tokens, now: float) -> dict[str, None]:
    return {row.id: None for row in tokens.all() if not row.may_enrol(now)}


def _put(home: Home, settings: AgentSettings, secrets: Mapping[str, bytes]) -> Path:
    device = settings.device
    home.devices.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f".{device}.", dir=home.devices))
    try:
        for name, secret in secrets.items():
            write_secret(folder / name, secret)
        write_atomic(folder / CA, home.roots())
        write_atomic(folder / AGENT, starter(settings, f"The agent of {device}.").encode())
        folder.rename(home.devices / device)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return home.devices / device


def _enrolment(home: Home) -> dict[str, object]:
    url = home.federation.url(home.federation.ports.enrolment)
    return {"enrolment.url": url, "enrolment.token_file": TOKEN}


def _device_broker(home: Home, *, certified: bool) -> BrokerSettings:
    federation = home.federation
    return BrokerSettings(
        url=federation.url(federation.ports.devices),
        ca_file=Path(CA),
        certificate_file=Path(CERTIFICATE) if certified else None,
        key_file=Path(KEY) if certified else None,
        prefix=federation.prefix,
        federation=federation.name,
    )
