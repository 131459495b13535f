"""A real ssh server on a free port, for this user and one key; its files in a folder."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build/sshd/usr/sbin/sshd"
START_S = 30.0
# Run by root it wants a user and a folder of its own, which only its mount namespace shall have.
AS_ROOT = """
mount --make-rprivate /
grep -q ^sshd: /etc/passwd || echo sshd:x:499:65534::/:/bin/false | cat /etc/passwd - >"$0/passwd"
[ ! -e "$0/passwd" ] || mount --bind "$0/passwd" /etc/passwd
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
exec "$@"
"""


def find_sshd() -> Path | None:
    """Installed, or unpacked by sshd.sh; None too where there is no client, or root has no namespaces."""
    if not (shutil.which("ssh") and shutil.which("ssh-keygen")):
        return None
    own_mounts = ["unshare", "--mount", "true"]
    if os.geteuid() == 0 and subprocess.run(own_mounts, capture_output=True, check=False).returncode:
        return None
    found = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else UNPACKED if UNPACKED.exists() else None


class Sshd:
    """`ssh` is the command that reaches it, for a machine of any name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        for name in ("host", "user"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(key, check=True, stdin=subprocess.DEVNULL)
        shutil.copy(folder / "user.pub", folder / "authorized")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.user = getpass.getuser()
        server = (
            f"Port {self._port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPasswordAuthentication no\n"
            "PermitRootLogin prohibit-password\n"
        )
        # Where an unpacked one is not installed: its own programs, from 9.8 on.
        for setting, name in (("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")):
            if (program := UNPACKED.parents[1] / "lib/openssh" / name).exists():
                server += f"{setting} {program}\n"
        (folder / "server").write_text(server)
        client = (
            f"Host *\nHostname 127.0.0.1\nPort {self._port}\nIdentityFile {folder}/user\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {folder}/known\nStrictHostKeyChecking accept-new\nLogLevel ERROR\n"
        )
        (folder / "client").write_text(client)
        self.ssh = f"ssh -F {folder}/client"

    def __enter__(self) -> Self:
        sshd = find_sshd()
        assert sshd is not None
        command = [str(sshd), "-D", "-e", "-f", str(self._folder / "server")]
        if os.geteuid() == 0:
            command = ["unshare", "--mount", "sh", "-c", AS_ROOT, str(self._folder), *command]
        libraries = [str(path) for path in UNPACKED.parents[2].glob("**/*-linux-gnu") if path.is_dir()]
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)} if sshd == UNPACKED else None
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=self._log)
        deadline = time.monotonic() + START_S
        while b"listening on" not in (log := (self._folder / "log").read_bytes()):
            assert self._process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(START_S)
        self._log.close()
