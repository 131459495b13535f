"""What cloud-init reads on the boot partition, if we set up all of the system: NoCloud's files.

Written as JSON, which is YAML. Source: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

import hashlib
import json
import re
from dataclasses import dataclass

from host.errors import ConfigError

PSK = re.compile(r"[0-9A-Fa-f]{64}")
PASSWORD = re.compile(r"[ -~]{8,63}")
COUNTRY = re.compile(r"[A-Z]{2}")
MAX_SSID_BYTES = 32
# One level of a domain's name, and what useradd takes: a machine that refuses them is found out by nobody.
HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Wifi:
    """A network to join; `country` is two letters, which say what channels are allowed.

    Raises ConfigError for what no radio takes.
    """

    ssid: str
    password: str
    country: str

    def __post_init__(self) -> None:
        if not 0 < len(self.ssid.encode()) <= MAX_SSID_BYTES:
            raise ConfigError(f"--wifi {self.ssid}: a network's name has 1 to {MAX_SSID_BYTES} bytes")
        if not (PASSWORD.fullmatch(self.password) or PSK.fullmatch(self.password)):
            raise ConfigError(
                "a Wi-Fi password has 8 to 63 characters of ASCII, or is a key of 64 hex digits"
            )
        if not COUNTRY.fullmatch(self.country):
            raise ConfigError(f"--wifi-country {self.country}: write two letters, such as DE or GB")

    def psk(self) -> str:
        """The key that WPA derives from the password, 64 hex digits: IEEE 802.11i, H.4."""
        if PSK.fullmatch(self.password):
            return self.password
        return hashlib.pbkdf2_hmac("sha1", self.password.encode(), self.ssid.encode(), 4096, 32).hex()


@dataclass(frozen=True)
class System:
    """What a system is besides its agent; raises ConfigError for names that it would not take."""

    hostname: str
    user: str
    ssh_key: str | None
    wifi: Wifi | None

    def __post_init__(self) -> None:
        if not HOSTNAME.fullmatch(self.hostname):
            raise ConfigError(f"{self.hostname!r} is no host name: letters, digits and hyphens, 63 at most")
        if not USER.fullmatch(self.user) or self.user == "root":
            raise ConfigError(f"--user {self.user}: begin with a lower-case letter, and not root")


def user_data(system: System) -> bytes:
    """The user who may log in, by key only, and the name of the machine."""
    user: dict[str, object] = {
        "name": system.user,
        "shell": "/bin/bash",
        "lock_passwd": True,
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
    }
    commands: list[list[str]] = []
    if system.ssh_key is not None:
        user["ssh_authorized_keys"] = [system.ssh_key]
        commands = [["systemctl", "enable", "--now", "--no-block", "ssh"]]
    return b"#cloud-config\n" + _json(
        {
            "hostname": system.hostname,
            "manage_etc_hosts": True,
            "users": [user],
            "ssh_pwauth": False,
            # Without a network an update would hold the first boot up.
            "package_update": False,
            "package_upgrade": False,
            "runcmd": commands,
        }
    )


def meta_data(system: System, instance: str) -> bytes:
    """What cloud-init tells a first boot from a later one by."""
    return _json({"instance-id": instance, "local-hostname": system.hostname, "dsmode": "local"})


def network_config(wifi: Wifi | None) -> bytes:
    """Any cable, by DHCP, and the wireless network."""
    network: dict[str, object] = {
        "version": 2,
        "ethernets": {"wired": {"match": {"name": "e*"}, "dhcp4": True, "optional": wifi is not None}},
    }
    if wifi is not None:
        network["wifis"] = {
            "wlan0": {
                "dhcp4": True,
                "regulatory-domain": wifi.country,
                "access-points": {wifi.ssid: {"password": wifi.psk()}},
            }
        }
    return _json({"network": network})


def _json(content: object) -> bytes:
    return json.dumps(content, indent=1).encode() + b"\n"
