"""A real systemd as process 1 of namespaces of its own, so that units are run as they are on a device.

It sees this machine's files, through an overlay whose changes are forgotten, and its network. What units
need of the project is below /opt/under-test, where no sandbox hides it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
BOOT = Path(__file__).with_name("pid1.sh")
CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
PATIENCE_S = 90.0
POLL_S = 0.1
NAMESPACES = ("--pid", "--fork", "--mount", "--cgroup", "--ipc", "--uts", "--kill-child")
UNDER_TEST = Path("/opt/under-test")
PYTHON = UNDER_TEST / "python/bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHONPATH = f"{UNDER_TEST}/source:{UNDER_TEST}/packages"
LIBRARIES = UNDER_TEST / "python/lib"


def why_not() -> str:
    """Why it cannot be started here; empty when it can."""
    if os.geteuid() != 0:
        return "only root can start systemd in namespaces"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed"
    if _cgroup() is None:
        return "no unified cgroup hierarchy can be written to"
    tried = subprocess.run(["unshare", *NAMESPACES, "true"], capture_output=True, check=False)
    return "this machine allows no namespaces" if tried.returncode else ""


def _cgroup() -> Path | None:
    found = (path for path in CGROUPS if (path / "cgroup.procs").exists())
    return next((path for path in found if os.access(path, os.W_OK)), None)


class Systemd:
    """Give it files with `put`, start it, ask with `systemctl`; everything ends with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = folder / "over"
        self.out = folder / "out"
        for path in (self._over, self.out):
            path.mkdir(parents=True)
        paths = {"source": str(ROOT), "python": sys.base_prefix, "packages": sysconfig.get_path("purelib")}
        (folder / "paths").write_text("".join(f"{name} {path}\n" for name, path in paths.items()))
        self.put("/etc/systemd/system/under-test.target", "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\n")
        cgroup = _cgroup()
        assert cgroup is not None
        self._cgroup = cgroup / f"midge-test-{os.getpid()}"

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file that it will find at `path`."""
        file = self._over / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def copy(self, source: Path, path: str) -> None:
        """Copy a file to where it will be found at `path`."""
        file = self._over / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, file)

    def __enter__(self) -> Self:
        self._cgroup.mkdir()
        self._console, self._theirs = os.openpty()
        # The group becomes the root of what is inside: to be in it before the namespace is made.
        boot = ["unshare", *NAMESPACES, "sh", str(BOOT), str(self._folder), os.ttyname(self._theirs)]
        inside = f"echo 0 >{self._cgroup}/cgroup.procs; exec \"$@\""
        self._process = subprocess.Popen(["sh", "-c", inside, "boot", *boot], stdin=subprocess.DEVNULL)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._until_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._theirs)
        self._reader.join()
        os.close(self._console)
        if error is not None:
            for log in sorted(self.out.glob("*.log")):
                sys.stderr.write(f"==== {log.name}\n{log.read_text(errors='replace')[-4000:]}\n")
        self._sweep()

    def systemctl(self, *arguments: str) -> str:
        """What systemctl prints."""
        told = subprocess.run(
            [*self._inside(), "systemctl", *arguments], capture_output=True, text=True, check=False
        )
        return told.stdout + told.stderr

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", unit, "--property", name, "--value").strip()

    def until(self, unit: str, name: str, *wanted: str) -> str:
        """Wait until a property holds one of these words, and give it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            value = self.show(unit, name)
            if any(word in value for word in wanted):
                return value
            time.sleep(POLL_S)
        raise AssertionError(f"{name} of {unit} is {value!r}: {self.systemctl('status', unit)}")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root inside."""
        return subprocess.run([*self._inside(), *command], capture_output=True, text=True, check=False)

    def _inside(self) -> list[str]:
        first = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return ["nsenter", "--target", first[0], "--mount", "--pid", "--cgroup", "--"] if first else ["false"]

    def _until_up(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while "under-test.target" not in self.systemctl("list-units", "--type=target"):
            assert self._process.poll() is None, (self.out / "systemd.log").read_text(errors="replace")
            assert time.monotonic() < deadline, (self.out / "systemd.log").read_text(errors="replace")
            time.sleep(POLL_S)

    def _read(self) -> None:
        """Keep what it logs; reading fails when nobody has the other end any more."""
        with (self.out / "systemd.log").open("wb", buffering=0) as log, contextlib.suppress(OSError):
            while True:
                log.write(os.read(self._console, 4096))

    def _sweep(self) -> None:
        """Remove our control groups, which are empty as soon as the kernel has ended what was in them."""
        deadline = time.monotonic() + PATIENCE_S
        while self._cgroup.exists() and time.monotonic() < deadline:
            for path in sorted(self._cgroup.rglob("*"), reverse=True):
                if path.is_dir():
                    _try_rmdir(path)
            _try_rmdir(self._cgroup)
            time.sleep(POLL_S)


def _try_rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return
