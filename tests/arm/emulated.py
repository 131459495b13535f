"""An emulated device: a Cortex-A53 with Debian's Python, and midge as a card installs it."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.card.wheelhouse import Target, read_wheelhouse

HERE = Path(__file__).parent
VERSIONS = HERE.parents[1] / "deploy/card/device/midge-versions"
# By Python, what fetch.sh unpacked.
SYSTEMS = {"3.11": "bookworm", "3.13": "trixie"}
LIMIT_S = 1800.0


@dataclass(frozen=True)
class Device:
    """One with the Python of `target`; `root` is where it keeps midge."""

    tools: Path
    target: Target
    root: Path

    def install(self, wheelhouses: Path) -> str:
        """Install what `midge wheelhouse` made, with the device's own script; gives the version."""
        wheelhouse = wheelhouses / self.target.tag
        version = read_wheelhouse(wheelhouse).version
        self._run("/bin/sh", VERSIONS, "add", wheelhouse)
        return version

    def run(self, version: str, *arguments: object) -> str:
        """What the Python of an installed version prints."""
        return self._run(self.root / "opt/midge/versions" / version / "bin/python", *arguments)

    def _run(self, *command: object) -> str:
        system = self.tools / SYSTEMS[self.target.python]
        emulator = f"{self.tools}/emulator/usr/bin/qemu-aarch64 -cpu cortex-a53 -L {system}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
        ended = subprocess.run(
            list(map(str, command)),
            env={
                **kept,
                "EMULATOR": emulator,
                "PYTHON": f"{system}/usr/bin/python{self.target.python}",
                "PATH": f"{HERE / 'bin'}:{os.environ['PATH']}",
                "MIDGE_ROOT": str(self.root),
            },
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        if ended.returncode:
            raise SystemExit(f"{ended.stderr}the emulated device ended with status {ended.returncode}")
        return ended.stdout
