"""Keys that give way to others while the fleet goes on: the broker's, and the aggregator's."""

import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from aggregator.settings import SIGNING_KEY
from broker.signing import CHAIN_SUFFIX, succeed
from broker.topics import ROUND, Role
from deploy.home.create import LOCAL_HOSTS
from deploy.home.home import Home
from deploy.trust.brokerfile import LOOPBACK, BrokerFile, Listener
from host.certificates import new_key, not_after, private_key, serial
from host.errors import ConfigError, MidgeError
from host.exits import ExitCode
from host.files import OPEN_MODE, SECRET_MODE, replace_file, write_atomic

SEEN_S = 10.0
PAUSE_S = 0.1
CONNECT_S = 5.0

Say = Callable[[str, str], None]


def rotate_broker(home: Home, file: BrokerFile, say: Say, *, ahead: bool = False) -> ExitCode:
    """Give the broker another key and certificate of the same authority; connections stay.

    While authorities change, of the older one, or with `ahead` of the newer one, which not all may trust yet.
    Raises ConfigError where the broker's listeners have no certificate, or not one for all, and OSError.
    """
    certificates, keys = file.files("certfile"), file.files("keyfile")
    if len(certificates) != 1 or len(keys) != 1:
        raise ConfigError(
            f"broker settings {file.path} name {len(certificates)} files of certificates and {len(keys)} of "
            "keys: one of each can be changed"
        )
    key = new_key()
    names = tuple(dict.fromkeys((*home.federation.hosts, *LOCAL_HOSTS)))
    chain = home.authority().issue_server(names, private_key(key).public_key(), ahead=ahead)
    # A broker that starts between the two does not find them to fit, and is started again. What the home has,
    # the next installation puts in place.
    for path in {keys[0], home.broker / "broker.key"}:
        replace_file(path, key, SECRET_MODE)
    for path in {certificates[0], home.broker / "broker.crt"}:
        replace_file(path, chain, OPEN_MODE)
    say("certificate", f"{certificates[0]} is written, valid until {not_after(chain):%Y-%m-%d}")
    try:
        say("broker", f"process {file.reload()} reads it again")
    except MidgeError as error:
        say("broker", f"has yet to read it: {error}")
        return ExitCode.FAILED
    return _seen(file.device_listener(), serial(chain), say)


def rotate_signing(home: Home, key_file: Path) -> tuple[str, str]:
    """Give the aggregator another signing key; both public keys, the old one first.

    The home keeps a copy, which bundles pin. Raises ConfigError, StorageError, OSError.
    """
    before, after = succeed(key_file, home.topics.topic(ROUND))
    copy = home.of(Role.AGGREGATOR) / SIGNING_KEY
    if copy.exists() and not copy.samefile(key_file):
        chain = copy.with_suffix(CHAIN_SUFFIX)
        # Before the first rotation there is none.
        write_atomic(chain, key_file.with_suffix(CHAIN_SUFFIX).read_bytes(), mode=OPEN_MODE)
        replace_file(copy, key_file.read_bytes(), SECRET_MODE)
    return before, after


def _seen(listener: Listener, wanted: str, say: Say) -> ExitCode:
    deadline = time.monotonic() + SEEN_S
    while (found := served_serial(listener.port)) != wanted:
        if time.monotonic() > deadline:
            say("broker", f"still shows certificate {found or 'none'} instead of {wanted}: restart it")
            return ExitCode.FAILED
        time.sleep(PAUSE_S)
    say("broker", f"shows certificate {wanted[:8]} to new connections; those that stand, stay")
    return ExitCode.OK


def served_serial(port: int) -> str | None:
    """The serial number of the certificate that this machine's broker shows; None when it shows none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Only compared with one of our own. With TLS 1.3 it is shown before one of ours is asked for.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        with (
            socket.create_connection((LOOPBACK, port), CONNECT_S) as plain,
            context.wrap_socket(plain) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
    except OSError:
        return None
    return serial(ssl.DER_cert_to_PEM_cert(shown).encode()) if shown else None
