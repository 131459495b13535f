"""Another authority for a fleet that goes on: trusted first, then signing, and at last alone.

https://datatracker.ietf.org/doc/html/rfc4210#section-4.4 has the order: who checks learns of a root before
anybody shows what it signed.
"""

import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from broker.topics import Role
from deploy.home.bundle import CA
from deploy.home.home import Home
from deploy.pki import succession
from deploy.pki.authority import BROKER, Authority
from deploy.pki.issuer import ROOT_KEY
from deploy.pki.register import Issued
from deploy.pki.succession import Stage
from deploy.trust.brokerfile import LOOPBACK, BrokerFile, Listener, replace_file
from deploy.trust.rotation import rotate_broker
from host.certificates import new_key, private_key, serial
from host.errors import ConfigError, MidgeError
from host.exits import ExitCode

SEEN_S = 10.0
PAUSE_S = 0.1
CONNECT_S = 5.0
MODE = 0o644
SHOWN = 20

Say = Callable[[str, str], None]


def rotate_ca(home: Home, file: BrokerFile, say: Say) -> ExitCode:
    """Make another authority, have the broker trust both, and let the new one sign; run again, it goes on.

    Raises ConfigError, also when all that is left to do is `finish_ca`, and OSError.
    """
    succession.begin(home.pki, home.federation.name, datetime.now(UTC))
    stage, successor = succession.successor_of(home.pki)
    if stage is Stage.ALONE:
        raise ConfigError("the old authority is being taken away: midge rotate ca --finish")
    say("authority", f"a new root and a new intermediate are in {successor}")
    if not _hand_over(home, file, say):
        return ExitCode.FAILED
    if not _comes_to_be_trusted(file.device_listener(), Authority(home.pki, ahead=True)):
        say(
            "broker",
            "was NOT seen to take a certificate of the new authority: restart it, and run this again",
        )
        return ExitCode.FAILED
    say("broker", "takes certificates of both")
    if stage is Stage.TRUSTED:
        succession.sign(home.pki)
    say("registrar", "signs with the new one, and has devices renew; see midge rotate ca --status")
    if (successor / ROOT_KEY).exists():
        say("root", f"take {successor / ROOT_KEY} away to where no network reaches")
    return ExitCode.OK


def left_behind(authority: Authority, now: datetime) -> list[Issued]:
    """The newest good certificate of each who has none of the new authority, by name."""
    newest = {
        row.name: row
        for row in authority.register.all()
        if row.revoked_at is None and row.not_after > now and row.role != BROKER
    }
    return [row for _, row in sorted(newest.items()) if row.issuer != authority.issuer_id]


def finish_ca(home: Home, file: BrokerFile, say: Say, *, leave: bool) -> ExitCode:
    """Certify the broker by the new authority, and have nobody trust the old one; run again, it goes on.

    Raises ConfigError when there is nothing to finish or somebody is left behind and not to be left, OSError.
    """
    authority = home.authority()
    if authority.stage in {None, Stage.TRUSTED}:
        raise ConfigError("no new authority signs yet: midge rotate ca")
    behind = [row.name for row in left_behind(authority, datetime.now(UTC))]
    if behind and not leave:
        more = f" and {len(behind) - SHOWN} more" if len(behind) > SHOWN else ""
        raise ConfigError(
            f"the old authority certified {', '.join(behind[:SHOWN])}{more}: wait until they renewed, "
            "revoke them, or lock them out by --leave"
        )
    if code := rotate_broker(home, file, say):
        return code
    succession.stand_alone(home.pki)
    if not _hand_over(home, file, say):
        return ExitCode.FAILED
    succession.finish(home.pki)
    say("authority", "the old one is gone; devices forget its root when they renew next")
    return ExitCode.OK


def _hand_over(home: Home, file: BrokerFile, say: Say) -> bool:
    """Give broker and bundles the roots and lists of now; whether the broker reads them."""
    authority = home.authority()
    roots, lists = authority.roots, authority.crl()
    people = home.of(Role.MONITOR).glob(CA)
    trusting = [*file.files("cafile"), home.broker / "ca.crt", *people, *home.devices.glob(f"*/{CA}")]
    for path, content in (
        *((path, roots) for path in dict.fromkeys(trusting)),
        *((path, lists) for path in dict.fromkeys([*file.files("crlfile"), home.broker / "crl.pem"])),
    ):
        replace_file(path, content, MODE)
    say("files", f"{len(trusting)} files of roots are written, and the lists of revoked certificates")
    try:
        say("broker", f"process {file.reload()} reads them again")
    except MidgeError as error:
        say("broker", f"has yet to read them: {error}; then run this again")
        return False
    return True


def _comes_to_be_trusted(listener: Listener, authority: Authority) -> bool:
    """Whether the broker takes a certificate of this authority, after a while at most."""
    key = new_key()
    # No device is shown in its place, and nothing is said over the connection.
    chain = authority.issue(Role.OPERATOR, Role.OPERATOR, private_key(key).public_key(), days=1.0)
    try:
        with tempfile.TemporaryDirectory(prefix="midge-trial-") as folder:
            secret, shown = Path(folder) / "key", Path(folder) / "crt"
            secret.write_bytes(key)
            shown.write_bytes(chain)
            deadline = time.monotonic() + SEEN_S
            while not (taken := _is_taken(listener.port, shown, secret)) and time.monotonic() < deadline:
                time.sleep(PAUSE_S)
            return taken
    finally:
        authority.revoke(serial(chain))


def _is_taken(port: int, shown: Path, secret: Path) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only our own certificate is on trial. With TLS 1.2 the handshake ends with the broker's word on it.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(shown, secret)
    try:
        with socket.create_connection((LOOPBACK, port), CONNECT_S) as plain, context.wrap_socket(plain):
            return True
    except OSError:
        return False
