"""TLS towards the broker: contexts from settings, and whose fault a failure is."""

import re
import ssl

from broker.settings import BrokerSettings
from host.errors import ConfigError

_REFUSAL = re.compile(
    r"CERTIFICATE_VERIFY_FAILED|ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE)"
)
# A device without a clock, or a broker whose certificate was renewed late: time mends it.
_CURABLE = re.compile(r"verify failed: certificate (is not yet valid|has expired)")


def is_refusal(reason: str) -> bool:
    """Whether OpenSSL's words mean that the two sides will not accept each other later either."""
    return bool(_REFUSAL.search(reason)) and not _CURABLE.search(reason)


class _ClosedOnFailure(ssl.SSLSocket):
    """Closes itself when the handshake fails, which paho leaves to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the base class's signature
        try:
            super().do_handshake(block)
        except (OSError, ValueError):
            self.close()
            raise


def client_context(settings: BrokerSettings) -> ssl.SSLContext | None:
    """Read the files named in the settings; None without TLS, ConfigError when a file cannot be used."""
    if not settings.endpoint.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        context.sslsocket_class = _ClosedOnFailure
        if settings.certificate_file is not None:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except OSError as error:
        files = [
            str(f) for f in (settings.ca_file, settings.certificate_file, settings.key_file) if f is not None
        ]
        raise ConfigError(f"broker TLS files {', '.join(files)} cannot be used: {error}") from None
    return context
