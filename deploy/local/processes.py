"""Processes of a local fleet, each with a log of its own; none of them outlives it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from host.errors import ChildError

SOURCES = Path(__file__).parents[2]
STOP_S = 10.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TAIL_LINES = 12
TAIL_BYTES = 8192
# They are many on few cores; and TensorFlow's remarks on the processor are no news.
ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Job:
    """A process that ends by itself, with its result on stdout."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    log: Path

    def result(self) -> str | None:
        """The last line of its output, None while it runs; raises ChildError when it failed."""
        status = self.process.poll()
        if status is None:
            return None
        lines = self.output.read_text(encoding="utf-8").splitlines()
        if status or not lines:
            raise ChildError(_obituary(self.name, status, self.log))
        return lines[-1]


class Processes:
    """Starts Python modules and ends them, by their ids, when the `with` block is left for any reason."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._jobs: list[Job] = []
        logs.mkdir(parents=True, exist_ok=True)

    def service(self, name: str, module: str, *arguments: str) -> None:
        """Start a process that is to run until it is stopped."""
        with _uninterrupted():
            self._services[name] = self._start(module, arguments, self._log(name), self._log(name))

    def job(self, name: str, module: str, *arguments: str) -> Job:
        """Start a process that does one thing."""
        output = self._logs / f"{name}.out"
        with _uninterrupted():
            job = Job(name, self._start(module, arguments, output, self._log(name)), output, self._log(name))
            self._jobs.append(job)
        return job

    def check(self) -> None:
        """Raise ChildError, with the end of its log, if a service ended."""
        for name, process in self._services.items():
            if (status := process.poll()) is not None:
                raise ChildError(_obituary(name, status, self._log(name)))

    def stop(self) -> None:
        """Ask all to end, then make them."""
        everything = [*self._services.values(), *(job.process for job in self._jobs)]
        for process in everything:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in everything:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            # Each leads a group of its own: whatever it started goes with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._services.clear()
        self._jobs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def _start(
        self, module: str, arguments: tuple[str, ...], output: Path, log: Path
    ) -> subprocess.Popen[bytes]:
        search = os.pathsep.join(filter(None, (str(SOURCES), os.environ.get("PYTHONPATH"))))
        with output.open("ab") as stdout, log.open("ab") as stderr:
            return subprocess.Popen(  # noqa: S603  our own modules
                [*_tied_to_us(), sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                # Ctrl-C is for us; we end the others in order.
                start_new_session=True,
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": search},
            )


def end_as_by_ctrl_c() -> None:
    """Have what asks this process to end raise KeyboardInterrupt, so that everything is stopped in order."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Have Ctrl-C wait: a process that is started and not noted yet would be left running."""
    caught: list[int] = []
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, lambda got, _: caught.append(got)) for number in ENDING}
    else:
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in caught:
            signal.raise_signal(one)


def _tied_to_us() -> list[str]:
    """Have the kernel end the process if we are killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def _obituary(name: str, status: int, log: Path) -> str:
    tail = log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").splitlines()[-TAIL_LINES:]
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return "\n  ".join([f"{name} {how}; the end of its log:", *(tail or ["(it is empty)"])])
