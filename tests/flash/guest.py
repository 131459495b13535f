"""A device in QEMU: started, talked to through a shell of the test's own, and cut off from its power."""

import contextlib
import os
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# What a guest calls the machine that it runs on.
HOST = "10.0.2.2"
POLL_S = 0.5
ANSWER_S = 120.0
FIRST_PARTITION = 8 << 20
# Emulated on a busy machine, a guest may take minutes to find its disks: systemd would give up after 90 s.
PATIENT = ("systemd.default_device_timeout_sec=900", "systemd.default_timeout_start_sec=900")

MACHINES = {
    "amd64": ("qemu-system-x86_64", "-M", "q35", "-cpu", "max"),
    "arm64": ("qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a53"),
}
CONSOLES = {"amd64": "ttyS0", "arm64": "ttyAMA0"}


@dataclass(frozen=True)
class Machine:
    """What does not change from boot to boot."""

    architecture: str
    tools: Path
    base: Path
    image: Path
    disks: tuple[Path, ...] = ()
    # An instant as QEMU takes it, or "utc".
    clock: str = "utc"

    def command(self, shell: Path) -> list[str]:
        """What starts it; the kernel's command line is composed as the firmware of a Raspberry Pi would."""
        binary, *kind = MACHINES[self.architecture]
        libraries = self.tools / "usr/lib/x86_64-linux-gnu"
        loader = [
            self.tools / "usr/lib64/ld-linux-x86-64.so.2",
            "--library-path",
            f"{libraries}:{libraries}/pulseaudio",
        ]
        firmware = [
            ("-L", self.tools / "usr" / place) for place in ("share/qemu", "share/seabios", "lib/ipxe/qemu")
        ]
        words = [
            *("nice", "-n", "5", *loader, self.tools / "usr/bin" / binary),
            *(word for pair in firmware for word in pair),
            *(*kind, "-accel", "tcg,thread=multi", "-m", "1024", "-smp", "2"),
            *("-kernel", self.base.with_suffix(".vmlinuz"), "-initrd", self.base.with_suffix(".initrd")),
            *("-append", self._append(), "-rtc", f"base={self.clock}"),
            *("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-rng-pci", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=shell,path={shell},server=on,wait=off"),
            *("-device", "virtserialport,chardev=shell,name=midge.shell"),
            *("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"),
        ]
        for disk in (self.image, *self.disks):
            # As a card does, it keeps what was synced and no more.
            words += ["-drive", f"file={disk},format=raw,if=virtio,cache=writeback"]
        return [str(word) for word in words]

    def _append(self) -> str:
        line = subprocess.run(
            ["/usr/bin/mtype", "-i", f"{self.image}@@{FIRST_PARTITION}", "::/cmdline.txt"],
            env={**os.environ, "MTOOLS_SKIP_CHECK": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        kept = [word for word in line.split() if word.startswith(("ds=", "cgroup"))]
        console = f"console={CONSOLES[self.architecture]},115200"
        return " ".join(["root=LABEL=rootfs", "rw", console, "net.ifnames=0", "panic=-1", *PATIENT, *kept])


class Guest:
    """One boot of a machine, from power to no power."""

    def __init__(self, machine: Machine, log: Path) -> None:
        self._log = log
        self._socket_path = log.with_suffix(".sock")
        self._socket_path.unlink(missing_ok=True)
        with log.open("wb") as console:
            self._process = subprocess.Popen(
                machine.command(self._socket_path),
                env={**os.environ, "QEMU_MODULE_DIR": f"{machine.tools}/usr/lib/x86_64-linux-gnu/qemu"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self._asked = 0
        # From the first moment: a shell without somebody who listens would end.
        self._shell = self._connect()

    def cut_power(self) -> None:
        """End it at once; what was not synced is lost."""
        self._process.kill()
        self._process.wait()
        self._shell.close()
        self._socket_path.unlink(missing_ok=True)

    def shut_down(self, within_s: float = 180) -> None:
        """Have it switch itself off."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            self.run("systemctl poweroff --no-block")
        try:
            self._process.wait(within_s)
        finally:
            self.cut_power()

    def run(self, command: str, within_s: float = ANSWER_S) -> str:
        """What a shell command prints; raises AssertionError when it fails, TimeoutError when it hangs."""
        status, said = self.try_to_run(command, within_s)
        assert status == 0, f"{command}: {status}\n{said}"
        return said

    def try_to_run(self, command: str, within_s: float = ANSWER_S) -> tuple[int, str]:
        """Give the exit status of a command, and what it prints."""
        self._asked += 1
        mark = f"answer-{self._asked}"
        line = f"echo {mark}-begins; sh -c {shlex.quote(command)} 2>&1 </dev/null; echo {mark}-ends $?\n"
        deadline = time.monotonic() + within_s
        self._shell.sendall(line.encode())
        said = b""
        while f"{mark}-ends ".encode() not in said or not said.endswith(b"\n"):
            self._shell.settimeout(max(0.01, deadline - time.monotonic()))
            part = self._shell.recv(1 << 16)
            if not part:
                raise ConnectionError(f"the guest ended; see {self._log}")
            said += part.replace(b"\r", b"")
        body, _, status = said.decode(errors="replace").rpartition(f"{mark}-ends ")
        return int(status), body.partition(f"{mark}-begins\n")[2]

    def wait_until(self, command: str, within_s: float) -> str:
        """Run a command until it succeeds; gives what it printed. Raises TimeoutError."""
        deadline = time.monotonic() + within_s
        while True:
            left = deadline - time.monotonic()
            status, said = self.try_to_run(command, max(left, 1.0))
            if status == 0:
                return said
            if left <= 0:
                raise TimeoutError(f"{command}: not within {within_s} s; see {self._log}\n{said}")
            time.sleep(POLL_S)

    def _connect(self) -> socket.socket:
        while not self._socket_path.exists():
            assert self._process.poll() is None, f"QEMU did not start; see {self._log}"
            time.sleep(POLL_S)
        shell = socket.socket(socket.AF_UNIX)
        shell.connect(str(self._socket_path))
        return shell
