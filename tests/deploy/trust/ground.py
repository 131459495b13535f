"""A Mosquitto with a listener for certificates and one on loopback, and the authority behind it."""

import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from typer.testing import CliRunner

from broker.accounts import new_password, update_accounts
from broker.acl import acl
from broker.mosquitto import _free_port, find_mosquitto
from broker.settings import BrokerSettings
from broker.topics import Role, Topics
from deploy.command.app import app
from deploy.home.home import Home
from deploy.pki.authority import Authority
from deploy.trust.brokerfile import BrokerFile
from host.certificates import new_key, private_key
from tests.broker.peer import PATIENCE_S

CONFIG = """
per_listener_settings true
log_dest stderr
user root

listener {tls}
allow_anonymous false
acl_file {folder}/acl
certfile {folder}/broker.crt
keyfile {folder}/broker.key
cafile {folder}/ca.crt
crlfile {folder}/crl.pem
require_certificate true
use_identity_as_username true
use_username_as_clientid true

listener {plain} 127.0.0.1
allow_anonymous false
acl_file {folder}/acl
password_file {folder}/accounts
use_username_as_clientid {named}
"""
USERS = {"aggregator": Role.AGGREGATOR, "operator": Role.OPERATOR, "monitor": Role.MONITOR}


class Ground:
    """Everything in one folder; the broker runs while this is open."""

    def __init__(
        self, folder: Path, *, name_is_client_id: bool = False, authority: Authority | None = None
    ) -> None:
        self.folder = folder
        self.topics = Topics("lab")
        self.tls, self.plain = _free_port(), _free_port()
        self.authority = authority or Authority.create(folder / "pki", "lab")
        self.config = folder / "mosquitto.conf"
        named = str(name_is_client_id).lower()
        self.config.write_text(CONFIG.format(folder=folder, tls=self.tls, plain=self.plain, named=named))
        (folder / "acl").write_text(acl(self.topics, USERS))
        (folder / "ca.crt").write_bytes(self.authority.root)
        (folder / "crl.pem").write_bytes(self.authority.crl())
        self.certify_broker()
        for user in USERS:
            password = new_password()
            (folder / f"{user}.password").write_text(password)
            update_accounts(folder / "accounts", {user: password})

    @property
    def file(self) -> BrokerFile:
        return BrokerFile.read(self.config)

    @property
    def url(self) -> str:
        return f"mqtts://127.0.0.1:{self.tls}"

    def certify_broker(self) -> None:
        key = new_key()
        (self.folder / "broker.key").write_bytes(key)
        chain = self.authority.issue_server(["127.0.0.1", "localhost"], private_key(key).public_key())
        (self.folder / "broker.crt").write_bytes(chain)

    def device(self, name: str) -> BrokerSettings:
        """A device's certificate, and how it reaches the broker with it."""
        key = new_key()
        chain = self.authority.issue(name, Role.DEVICE, private_key(key).public_key())
        (self.folder / f"{name}.key").write_bytes(key)
        (self.folder / f"{name}.crt").write_bytes(chain)
        return self.device_settings(name)

    def device_settings(self, name: str) -> BrokerSettings:
        """How a device reaches the broker with the certificate that it was given last."""
        return BrokerSettings(
            url=self.url,
            ca_file=self.folder / "ca.crt",
            certificate_file=self.folder / f"{name}.crt",
            key_file=self.folder / f"{name}.key",
            federation="lab",
        )

    def account(self, user: str) -> BrokerSettings:
        return BrokerSettings(
            url=f"mqtt://127.0.0.1:{self.plain}",
            username=user,
            password_file=self.folder / f"{user}.password",
            federation="lab",
        )

    def __enter__(self) -> Self:
        log = self.folder / "mosquitto.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen([find_mosquitto(), "-c", self.config], stderr=file)
        deadline = time.monotonic() + PATIENCE_S
        while " running" not in (said := log.read_text()):
            assert self._process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


class Teller:
    """What the steps said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, step: str, text: str) -> None:
        self.said.append(f"{step}: {text}")

    def heard(self, words: str) -> bool:
        return any(words in line for line in self.said)


def run(home: Home, *arguments: str) -> tuple[int, str]:
    """Run a verb of `midge`: its exit status and what it said; its error is raised."""
    done = CliRunner().invoke(app, [*arguments, "--home", str(home.root)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output
