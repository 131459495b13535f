"""Whether a broker heeds its revocation list: tried with a certificate that was revoked on purpose."""

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.probe import probe
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.pki.authority import Authority
from host.certificates import new_key, private_key, serial
from host.exits import ExitCode

REVOKED = re.compile(r"ALERT_CERTIFICATE_REVOKED|certificate revoked", re.IGNORECASE)
# It need not outlive the trial.
DAYS = 1.0
PAUSE_S = 0.2


@dataclass(frozen=True)
class Canary:
    """A certificate in a device's name, and how it is shown to the broker."""

    name: str
    serial: str
    settings: BrokerSettings

    def refused(self, within_s: float) -> tuple[bool, str]:
        """Whether the broker comes to refuse it as revoked, and what it said last."""
        deadline = time.monotonic() + within_s
        while True:
            code, said = probe(self.settings, self.name)
            if code is ExitCode.REFUSED_CREDENTIALS and REVOKED.search(said):
                return True, said
            if time.monotonic() > deadline:
                return False, said
            time.sleep(PAUSE_S)


@contextmanager
def canary(authority: Authority, name: str, role: Role, url: str) -> Iterator[Canary]:
    """Make one, valid until it is revoked with the others of its name; its key leaves with it."""
    key = new_key()
    chain = authority.issue(name, role, private_key(key).public_key(), days=DAYS)
    with tempfile.TemporaryDirectory(prefix="midge-canary-") as folder:
        trusted, shown, secret = (Path(folder) / name for name in ("ca.crt", "device.crt", "device.key"))
        for path, content in ((trusted, authority.roots), (shown, chain), (secret, key)):
            path.write_bytes(content)
        settings = BrokerSettings(url=url, ca_file=trusted, certificate_file=shown, key_file=secret)
        yield Canary(name, serial(chain), settings)
