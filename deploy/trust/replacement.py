"""A device that broke, replaced under its id: another key and certificate in an otherwise equal bundle."""

import re
from pathlib import Path

from broker.control import Verb
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.command.control import ask, new_request
from deploy.home.bundle import AGENT, CA, CERTIFICATE, KEY
from deploy.home.home import Home
from deploy.pki.authority import Authority
from host.certificates import new_key, request
from host.errors import ConfigError
from host.files import write_atomic

ASKED_S = 10.0
PINNED = re.compile(r"^#?aggregator_key = .*$", re.MULTILINE)


def check_bundle(home: Home, device: str) -> None:
    """Raise ConfigError where a device has no bundle with a key, and settings that name it."""
    bundle = home.devices / device
    if not (bundle / AGENT).is_file():
        raise ConfigError(
            f"{bundle} has no {AGENT} to keep: midge revoke {device}, then midge enroll {device}"
        )
    if not (bundle / KEY).is_file():
        raise ConfigError(
            f"{bundle} is for a device that makes its own key: midge revoke {device}, remove the folder, "
            f"then midge enroll {device} --token and midge admit {device}"
        )


def renew_bundle(home: Home, authority: Authority, device: str) -> Path:
    """Give a bundle a new key and certificate; its settings stay, but for the aggregator's key of today.

    What a power cut or a full disk leaves is made whole when this is done again.
    """
    bundle, key = home.devices / device, new_key()
    settings = PINNED.sub(f'aggregator_key = "{home.aggregator_key()}"', (bundle / AGENT).read_text())
    certificate = authority.sign(device, Role.DEVICE, request(key, device))
    write_atomic(bundle / AGENT, settings.encode())
    write_atomic(bundle / CA, home.roots())
    write_atomic(bundle / KEY, key, mode=0o600)
    write_atomic(bundle / CERTIFICATE, certificate)
    return bundle


def admit(operator: BrokerSettings, device: str) -> str:
    """Have the aggregator hear a device, whatever key it signs with; what it says. Raises MidgeError."""
    return ask(operator, new_request(Verb.ADMIT, device=device), ASKED_S).text
