"""A federation with certificates: the home that `midge init` makes, its broker, its registrar."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aggregator.settings import SIGNING_KEY
from broker.settings import BrokerSettings
from broker.topics import Role
from deploy.home.bundle import agent_settings, enrol, enrol_by_token
from tests.deploy.home.federation import local, make_home, reload, running
from tests.system.lab import PATIENCE_S, Lab, Process, search_path, write_examples

REGISTRAR = "from deploy.command.entry import main; main()"
DAY_S = 86_400.0


class Registrar:
    """`midge registrar` as a process with a log."""

    def __init__(self, config: Path, log: Path, program: str) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, "registrar", "--config", config, "--log-level", "debug"],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        return self._process.wait(PATIENCE_S)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


class SecuredLab(Lab):
    """A lab whose devices show certificates."""

    def __init__(self, folder: Path) -> None:
        self.home = make_home(folder / "home")
        passwords = folder / "passwords"
        passwords.mkdir()
        for role in (Role.AGGREGATOR, Role.OPERATOR, Role.MONITOR):
            shutil.copy(local(self.home, role).password_file or "", passwords / role.value)
        broker = local(self.home, Role.MONITOR).model_copy(update={"password_file": passwords / "monitor"})
        super().__init__(folder, broker)
        (folder / "aggregator").mkdir()
        shutil.copy(self.home.of(Role.AGGREGATOR) / SIGNING_KEY, folder / "aggregator")
        self._stack = ExitStack()
        self._registrars: list[Registrar] = []

    def __enter__(self) -> Self:
        self._broker_process = self._stack.enter_context(running(self.home))
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        for registrar in self._registrars:
            if registrar.alive:
                registrar.kill()
        self._stack.close()

    def registrar_account(self) -> BrokerSettings:
        return local(self.home, Role.REGISTRAR)

    def start_registrar(self, program: str = REGISTRAR, **settings: float) -> Registrar:
        config = self.home.of(Role.REGISTRAR) / "registrar.toml"
        own = config.with_name("own.toml")
        lines = [f"{key} = {value!r}" for key, value in settings.items()]
        own.write_text("\n".join([*lines, config.read_text()]))
        self._registrars.append(Registrar(own, self.folder / "registrar.log", program))
        return self._registrars[-1]

    def bundle(self, device: str) -> Path:
        """A bundle with key and certificate."""
        return enrol(self.home, self.home.authority(), agent_settings(self.home, device, {}))

    def token_bundle(self, device: str, lifetime_s: float = 3600) -> Path:
        """A bundle with a token, which the broker knows."""
        settings = agent_settings(self.home, device, {}, by_token=True)
        bundle = enrol_by_token(self.home, self.home.tokens(), settings, lifetime_s)
        reload(self.home, self._broker_process)
        return bundle

    def state(self, name: str) -> Path:
        return self.folder / f"{name}.state"

    def start_bundle(self, bundle: Path, name: str, **environment: str) -> Process:
        """An agent with the files of a bundle; its log and state have a name of their own."""
        data = self.folder / f"{name}.npz"
        if not data.exists():
            write_examples(data, 60, seed=1)
        given = {
            "state_folder": self.state(name),
            "data.path": data,
            "broker.reconnect_max_s": 0.5,
            "nice": 0,
        }
        pairs = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
        process = Process(
            "midge-agent",
            bundle / "agent.toml",
            self.folder / f"{name}.log",
            {"PYTHONPATH": search_path(), **environment},
            *pairs,
        )
        self.processes.append(process)
        return process

    def until_logged(self, name: str, words: str, times: int = 1) -> str:
        """Wait until a process has said so."""
        return self._wait(lambda: self.log(name).count(words) >= times, f"{words!r} in {name}.log", name)

    def _wait(self, done: Callable[[], bool], what: str, name: str) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while not ((self.folder / f"{name}.log").exists() and done()):
            assert time.monotonic() < deadline, what
            time.sleep(0.05)
        return self.log(name)
