"""How to reach the broker, and under which topics."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from broker.names import ID_PATTERN
from broker.topics import Topics
from host.errors import ConfigError

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
DEFAULT_WEBSOCKET_PATH = "/mqtt"
# Nothing that means something in a filter, in an ACL file or at the start of a broker's own topics ($SYS).
PREFIX_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*){0,3}$"
MAX_PASSWORD_BYTES = 4096


class Endpoint(NamedTuple):
    """A broker's URL taken apart; `path` is None unless MQTT travels inside a websocket."""

    host: str
    port: int
    tls: bool
    path: str | None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine is reached by it."""
        return is_loopback(self.host)


class BrokerSettings(BaseModel):
    """The `[broker]` table of a settings file; secrets are named by path."""

    # A URL can hold a password, which an error must not repeat.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str = Field(description="mqtt://, mqtts://, ws:// or wss://, then host[:port][/path]")
    username: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="a device's account has the name of the device",
    )
    password_file: Path | None = Field(default=None, description="holds the password and nothing else")
    ca_file: Path | None = Field(default=None, description="None: the system's certificate authorities")
    certificate_file: Path | None = Field(default=None, description="a client certificate, as PEM")
    key_file: Path | None = Field(default=None, description="the certificate's key, as PEM")
    prefix: str = Field(
        default="midge", pattern=PREFIX_PATTERN, max_length=128, description="first levels of every topic"
    )
    federation: str = Field(
        default="default", pattern=ID_PATTERN, description="which devices and aggregator belong together"
    )
    client_id: str | None = Field(
        default=None, min_length=1, max_length=128, description="only for brokers that demand a fixed one"
    )
    keepalive_s: int = Field(
        default=15, ge=1, le=3600, description="silence of the link after which MQTT asks whether it stands"
    )
    connect_timeout_s: float = Field(
        default=10, gt=0, le=300, description="for connecting, and for its answer"
    )
    reconnect_min_s: float = Field(
        default=0.5, gt=0, le=3600, description="where the longest random pause before a new attempt begins"
    )
    reconnect_max_s: float = Field(
        default=60, gt=0, le=3600, description="where it ends, doubled with every attempt"
    )
    refusals_before_exit: int = Field(
        default=5, ge=1, description="refused credentials in a row after which a service gives up"
    )
    max_queued: int = Field(default=1000, ge=1, le=60_000, description="messages not yet acknowledged")

    @field_validator("url")
    @classmethod
    def _readable(cls, url: str) -> str:
        read_endpoint(url)
        return url

    @model_validator(mode="after")
    def _consistent(self) -> "BrokerSettings":
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: give both or neither")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file is set, but username is not: give both")
        if self.reconnect_min_s > self.reconnect_max_s:
            raise ValueError("reconnect_min_s is larger than reconnect_max_s")
        if not self.endpoint.tls and (self.ca_file or self.certificate_file):
            raise ValueError(
                "ca_file or certificate_file is set, but the url is not encrypted: use mqtts:// or wss://"
            )
        return self

    @property
    def endpoint(self) -> Endpoint:
        """The parts of the URL, with default ports filled in."""
        return read_endpoint(self.url)

    @property
    def topics(self) -> Topics:
        """The topics of this federation."""
        return Topics(self.federation, self.prefix)

    def at(self, url: str, username: str, password_file: Path) -> "BrokerSettings":
        """The same broker by another listener and account, and without a certificate of ours."""
        ours = dict.fromkeys(("certificate_file", "key_file", "client_id"))
        account = {"url": url, "username": username, "password_file": password_file}
        return self.model_copy(update={**ours, **account})

    def password(self) -> str | None:
        """Read the password; raises ConfigError when its file is unreadable or empty."""
        if self.password_file is None:
            return None
        try:
            with self.password_file.open("rb") as file:
                password = file.read(MAX_PASSWORD_BYTES).decode().strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"broker password_file {self.password_file} cannot be read: {why}") from None
        if not password:
            raise ConfigError(
                f"broker password_file {self.password_file} is empty: write the password into it"
            )
        return password


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's for itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_endpoint(url: str) -> Endpoint:
    """Take a broker's URL apart; raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError(f"broker url {url!r} must begin with mqtt://, mqtts://, ws:// or wss://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("broker url holds credentials: move them to username and password_file")
    if not parts.hostname or re.search(r"\s", parts.netloc):
        raise ValueError(f"broker url {url!r} names no host")
    if parts.query or parts.fragment:
        raise ValueError(f"broker url {url!r} must end after host, port and path")
    websocket = parts.scheme.startswith("ws")
    if not websocket and parts.path not in ("", "/"):
        raise ValueError(
            f"broker url {url!r} has a path, which only ws:// and wss:// take; see prefix for topics"
        )
    path = (parts.path if parts.path.strip("/") else DEFAULT_WEBSOCKET_PATH) if websocket else None
    return Endpoint(parts.hostname, _port(url), parts.scheme in ("mqtts", "wss"), path)


def _port(url: str) -> int:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"broker url {url!r} has a port outside of 1 to 65535")
    return port or DEFAULT_PORTS[parts.scheme]
