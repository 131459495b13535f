"""What cloud-init reads on the boot partition, if we set up all of the system: NoCloud's files.

Written as JSON, which is YAML. Source: https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

import hashlib
import json
from dataclasses import dataclass

PSK_DIGITS = 64
MIN_PASSWORD, MAX_PASSWORD = 8, 63


@dataclass(frozen=True)
class Wifi:
    """A network to join; `country` is two letters, which say what channels are allowed."""

    ssid: str
    password: str
    country: str

    def psk(self) -> str:
        """The key that WPA derives from the password, 64 hex digits: IEEE 802.11i, H.4."""
        if len(self.password) == PSK_DIGITS:
            return self.password
        return hashlib.pbkdf2_hmac("sha1", self.password.encode(), self.ssid.encode(), 4096, 32).hex()


@dataclass(frozen=True)
class System:
    """What a system is besides its agent."""

    hostname: str
    user: str
    ssh_key: str | None
    wifi: Wifi | None


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
