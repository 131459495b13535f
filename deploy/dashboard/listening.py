"""Where the page is served, and what is safe there."""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from broker.settings import is_loopback
from host.errors import ConfigError

DEFAULT = "127.0.0.1:8600"
MAX_PORT = 65_535
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Listening:
    """An address, and the certificate and key of its TLS."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(self.host)

    def url(self, port: int) -> str:
        """What to type into a browser on this machine."""
        scheme = "http" if self.certificate is None else "https"
        every = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}  # noqa: S104  compared only
        host = every.get(self.host, self.host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    def bound(self) -> socket.socket:
        """A socket that listens there; raises ConfigError."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {self.host} port {self.port}: {error.strerror}; "
                "name another place by --listen HOST:PORT"
            ) from None


def read_listening(place: str, certificate: Path | None, key: Path | None, *, login: bool) -> Listening:
    """Take HOST:PORT apart, and see that it is safe; raises ConfigError."""
    host, colon, port = place.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not (colon and host and (":" in host) == bracketed and port.isdecimal() and int(port) <= MAX_PORT):
        raise ConfigError(f"--listen {place}: write HOST:PORT, e.g. {DEFAULT} or [::1]:8600")
    if (certificate is None) != (key is None):
        raise ConfigError("TLS needs both --certificate and --key")
    listening = Listening(host, int(port), certificate, key)
    if not login and not listening.is_loopback:
        raise ConfigError(
            f"--no-login is for this machine alone, and others reach {host}: leave one of the two out"
        )
    if certificate is not None:
        _check_pair(certificate, key)
    return listening


def _check_pair(certificate: Path, key: Path | None) -> None:
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"--certificate {certificate} and --key {key} are no pair: {error}") from None
