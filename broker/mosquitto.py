"""A Mosquitto of our own, for demo, simulator and tests: its files in one folder, its process a child."""

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.accounts import new_password, update_accounts
from broker.acl import acl
from broker.conf import LOOPBACK, Listener, conf
from broker.discovery import Discovery
from broker.settings import BrokerSettings
from broker.topics import Role, Topics
from host.errors import ChildError, ConfigError
from host.files import write_atomic, write_secret

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.01
PORT_ATTEMPTS = 5
LOG_TAIL_BYTES = 2000
RUNNING, PORT_TAKEN = " running", "Address already in use"


def find_mosquitto() -> Path:
    """Where Mosquitto is installed; raises ConfigError when it is not."""
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ConfigError(
            "mosquitto was not found in PATH or /usr/sbin: install it, e.g. `apt install mosquitto`"
        )
    return Path(found)


class Mosquitto:
    """One broker on the loopback interface, with a random password for each user.

    `port=None` takes a free port at the first start and keeps it. Start it from a thread that lives as long
    as the broker shall: the child is ended when that thread ends.
    """

    def __init__(
        self,
        folder: Path,
        topics: Topics,
        users: Mapping[str, Role],
        *,
        port: int | None = None,
        persistence: bool = True,
        discovery: Discovery | None = None,
    ) -> None:
        self._folder = folder.absolute()
        self._topics = topics
        self._users = dict(users)
        self._discovery = discovery
        self._persistence = persistence
        self._log = self._folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = port
        (self._folder / "passwords").mkdir(parents=True, exist_ok=True)
        self._write_accounts()

    @property
    def port(self) -> int:
        """The TCP port; raises RuntimeError before the first start chose one."""
        if self._port is None:
            raise RuntimeError("the broker has no port before it was started")
        return self._port

    @property
    def pid(self) -> int:
        """The process id; raises RuntimeError while the broker does not run."""
        return self._running().pid

    def start(self) -> None:
        """Start and wait until it listens; raises ChildError with its log when it does not."""
        ports = [self._port] if self._port is not None else [_free_port() for _ in range(PORT_ATTEMPTS)]
        for last, port in zip([*[False] * (len(ports) - 1), True], ports, strict=True):
            if self._started(port, last=last):
                self._port = port
                return

    def stop(self) -> None:
        """Ask it to end, which saves retained messages; nothing happens when it does not run."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it at once (SIGKILL), as a power cut would."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None

    def settings(self, user: str) -> BrokerSettings:
        """How a client of the given user reaches this broker."""
        return BrokerSettings(
            url=f"mqtt://{LOOPBACK}:{self.port}",
            username=user,
            password_file=self._password_file(user),
            prefix=self._topics.prefix,
            federation=self._topics.federation,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the broker does not run")
        return self._process

    def _started(self, port: int, *, last: bool) -> bool:
        """Start on `port`; False when somebody took it meanwhile and another may be tried."""
        config = self._folder / "mosquitto.conf"
        listener = Listener(port, "acl", "accounts", loopback=True, tls=False, name_is_client_id=False)
        text = conf(self._folder, [listener], state=self._folder, persistence=self._persistence)
        write_atomic(config, text.encode())
        seen = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                [*_tied_to_parent(), str(find_mosquitto()), "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_for(RUNNING, seen)
        except ChildError as error:
            self.stop()
            if last or PORT_TAKEN not in str(error):
                raise
            return False
        return True

    def _wait_for(self, words: str, seen: int) -> None:
        """Wait for a line of the log after the first `seen` bytes."""
        process, deadline = self._running(), time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            if words in (log := self._log_after(seen)):
                return
            if ended:
                raise ChildError(f"mosquitto ended with status {process.returncode}: {log[-LOG_TAIL_BYTES:]}")
            time.sleep(POLL_S)
        raise ChildError(f"mosquitto did not get ready in {START_TIMEOUT_S:g} s: {log[-LOG_TAIL_BYTES:]}")

    def _log_after(self, seen: int) -> str:
        with self._log.open("rb") as file:
            file.seek(seen)
            return file.read().decode(errors="replace")

    def _password_file(self, user: str) -> Path:
        return self._folder / "passwords" / user

    def _write_accounts(self) -> None:
        rules = acl(self._topics, self._users, self._discovery)
        passwords = {user: self._password(user) for user in sorted(self._users)}
        update_accounts(self._folder / "accounts", passwords)
        write_atomic(self._folder / "acl", rules.encode())

    def _password(self, user: str) -> str:
        """Read a user's password, made up at the first time."""
        file = self._password_file(user)
        if not file.exists():
            write_secret(file, new_password().encode())
        return file.read_text()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _tied_to_parent() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
