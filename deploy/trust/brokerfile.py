"""Mosquitto's own settings file: which files it reads, and the process that does."""

import os
import signal
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from host.errors import ConfigError, MidgeError
from host.files import SECRET_MODE, replace_file

MAX_FILE_BYTES = 1 << 20
PROGRAM = "mosquitto"
LOOPBACK = "127.0.0.1"


@dataclass
class Listener:
    """One listener, with the settings that follow its line."""

    port: int
    address: str = ""
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def mutual(self) -> bool:
        """Whether clients show a certificate, which the revocation list is for."""
        return self.settings.get("require_certificate") == "true" and "certfile" in self.settings

    def file(self, name: str) -> Path | None:
        """A file that a setting names."""
        return Path(self.settings[name]) if name in self.settings else None


@dataclass(frozen=True)
class BrokerFile:
    """What a `mosquitto.conf` says of listeners, see https://mosquitto.org/man/mosquitto-conf-5.html."""

    path: Path
    listeners: tuple[Listener, ...]

    @classmethod
    def read(cls, path: Path) -> "BrokerFile":
        """Read the file; raises ConfigError. Files that it includes are not looked into."""
        try:
            with path.open("rb") as file:
                text = file.read(MAX_FILE_BYTES).decode(errors="replace")
        except OSError as error:
            raise ConfigError(
                f"broker settings {path} cannot be read: {error.strerror}; name them by --broker-config"
            ) from None
        listeners: list[Listener] = []
        for line in text.splitlines():
            key, _, value = line.strip().partition(" ")
            if key == "listener":
                listeners.append(_listener(value, path))
            elif listeners and key and not key.startswith("#"):
                listeners[-1].settings[key] = value.strip()
        return cls(path, tuple(listeners))

    def device_listener(self) -> Listener:
        """The listener that devices come to with their certificates; raises ConfigError without one."""
        found = [listener for listener in self.listeners if listener.mutual]
        if not found:
            raise ConfigError(f"broker settings {self.path} have no listener with require_certificate true")
        return found[0]

    def loopback_listener(self) -> Listener:
        """The listener with passwords that only this machine reaches; raises ConfigError without one."""
        for listener in self.listeners:
            plain = "certfile" not in listener.settings
            if plain and listener.address == LOOPBACK and "password_file" in listener.settings:
                return listener
        raise ConfigError(
            f"broker settings {self.path} have no listener on {LOOPBACK} with a password_file: "
            "without one no connection can be ended; restart the broker for that"
        )

    def files(self, name: str) -> list[Path]:
        """Every file that listeners name by this setting, each once."""
        found = (listener.file(name) for listener in self.listeners)
        return list(dict.fromkeys(path for path in found if path is not None))

    def take_accounts(self, source: Path) -> None:
        """Put a file of accounts where this broker has one of that name; raises OSError."""
        for path in self.files("password_file"):
            if path.name == source.name and not _same(path, source):
                replace_file(path, source.read_bytes(), SECRET_MODE)

    def reload(self) -> int:
        """Have the broker read lists and certificates again (SIGHUP); its process id.

        Connections stay. Raises MidgeError when no process reads this file, or it belongs to somebody else.
        """
        processes = _processes(self.path)
        if not processes:
            raise MidgeError(
                f"no mosquitto runs with -c {self.path}: start it, or name its settings by --broker-config; "
                "those of an installed broker are /etc/midge/broker/mosquitto.conf"
            )
        for process in processes:
            try:
                os.kill(process, signal.SIGHUP)
            except PermissionError:
                raise MidgeError(
                    f"mosquitto (process {process}) belongs to another user: run this as root"
                ) from None
            except ProcessLookupError:
                raise MidgeError(f"mosquitto (process {process}) ended just now: try again") from None
        return processes[0]


def _listener(value: str, path: Path) -> Listener:
    port, _, address = value.strip().partition(" ")
    if not port.isdecimal():
        raise ConfigError(f"broker settings {path}: listener {value!r} has no port")
    return Listener(int(port), address.strip())


def _processes(path: Path) -> list[int]:
    """Every process of Mosquitto that was started with these settings, as the kernel shows them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = [os.fsdecode(word) for word in (folder / "cmdline").read_bytes().split(b"\0")]
        except OSError:  # it ended meanwhile
            continue
        named = [Path(after) for before, after in pairwise(words) if before in ("-c", "--config-file")]
        if Path(words[0]).name == PROGRAM and any(_same(name, path) for name in named):
            found.append(int(folder.name))
    return sorted(found)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
