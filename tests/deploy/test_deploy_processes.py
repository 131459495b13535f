import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from deploy.local.processes import Job, Processes
from host.errors import ChildError

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal as s; s.signal(15, s.SIG_IGN); s.pause()"])
print(child.pid, flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules for the processes to run."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    (tmp_path / "failing.py").write_text(
        "import sys\nprint('step one', file=sys.stderr)\nsys.exit('disk gone')"
    )
    (tmp_path / "working.py").write_text("print('noise')\nprint('{}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("deploy.local.processes.STOP_S", 0.5)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that its new parent has not buried yet is not alive.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for_text(path: Path) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.02)
    raise TimeoutError(path)


def check_until_it_raises(processes: Processes) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        processes.check()


def test_a_job_gives_the_last_line_of_its_output(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        job = processes.job("work", "working")
        job.process.wait(20)
        assert job.result() == "{}"


def test_a_failed_job_tells_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        job = processes.job("work", "failing")
        job.process.wait(20)
        with pytest.raises(ChildError, match=r"work ended with status 1; (.|\n)*step one\n  disk gone"):
            job.result()


def test_a_service_that_ended_is_noticed(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        processes.service("server", "working")
        with pytest.raises(ChildError, match="server ended with status 0"):
            check_until_it_raises(processes)


def test_what_does_not_want_to_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        job = processes.job("mule", "stubborn")
        grandchild = int(wait_for_text(job.output))
        assert is_alive(grandchild)
    assert not is_alive(job.process.pid)
    deadline = time.monotonic() + 10
    while is_alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(grandchild)


def test_an_error_in_the_block_ends_everything_too(tmp_path: Path) -> None:
    processes = Processes(tmp_path / "logs")

    def fail() -> None:
        with processes:
            started.append(processes.job("mule", "stubborn"))
            wait_for_text(started[0].output)
            raise KeyboardInterrupt

    started: list[Job] = []
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not is_alive(started[0].process.pid)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_a_process_starts_leaves_it_noted_and_so_stopped(
    tmp_path: Path,
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(Processes):
        def _start(
            self, module: str, arguments: tuple[str, ...], output: Path, log: Path
        ) -> subprocess.Popen[bytes]:
            started.append(super()._start(module, arguments, output, log))
            signal.raise_signal(signal.SIGINT)
            return started[-1]

    with pytest.raises(KeyboardInterrupt), Interrupted(tmp_path) as processes:
        processes.job("stubborn", "stubborn")
    assert started[0].returncode is not None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
