"""A device's file system in a scratch folder, whose programs can be cut short as by a loss of power."""

import os
import subprocess
from pathlib import Path

# Programs of the system that the scripts call. Each call is a step after which the power may go.
CUT = """#!/bin/sh
[ "{name}" != sync ] && [ "{name}" != sleep ] && echo "{name} $*" >>"$WORLD/calls"
read -r count <"$WORLD/count"
{deed}
count=$((count - 1))
echo $count >"$WORLD/count"
[ $count -eq 0 ] && kill -9 0
exit 0
"""
# systemd, as far as the scripts ask it: an agent's fate stands in the folder of its version.
SYSTEMCTL = """
read -r invocation <"$WORLD/invocation"
read -r status <"$WORLD/status"
case "$1" in
restart)
    read -r status <"$MIDGE_ROOT/opt/midge/current/fate"
    echo "$status" >"$WORLD/status"
    echo $((invocation + 1)) >"$WORLD/invocation"
    ;;
show) printf 'ActiveState=active\\nStatusText=%s\\nInvocationID=%s\\n' "$status" "$invocation" ;;
--version) echo "systemd 257 (257.9-1)" ;;
esac
"""
DEEDS = {
    "sync": "",
    "sleep": "",
    "systemctl": SYSTEMCTL,
    # A cut leaves a file that is overwritten but not removed.
    "shred": 'for last; do :; done; /usr/bin/shred --iterations=1 --zero "$last"\n'
    '[ "$count" = 1 ] || rm "$last"',
}
NEVER = 1_000_000


class DeviceRoot:
    """Runs the device's scripts with `root` as its file system."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.world = folder / "world"
        self.boot = folder / "bootfs"
        self.payload = self.boot / "midge"
        programs = self.world / "bin"
        programs.mkdir(parents=True)
        self.root.mkdir(exist_ok=True)
        for name, deed in DEEDS.items():
            (programs / name).write_text(CUT.format(name=name, deed=deed))
            (programs / name).chmod(0o755)
        (self.world / "invocation").write_text("1\n")
        (self.world / "status").write_text("connected, idle\n")
        (self.world / "calls").touch()

    @property
    def opt(self) -> Path:
        """Where versions lie."""
        return self.root / "opt/midge"

    @property
    def calls(self) -> list[str]:
        """What was asked of systemd, but questions."""
        asked = (self.world / "calls").read_text().splitlines()
        return [call for call in asked if call.startswith("systemctl") and " show" not in call]

    def run(self, *command: str | Path, cut_after: int = NEVER) -> subprocess.CompletedProcess[str]:
        """Run a script; the power goes after so many calls of other programs."""
        (self.world / "count").write_text(str(cut_after))
        path = f"{self.world / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "MIDGE_ROOT": str(self.root), "WORLD": str(self.world)}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(
            ["/bin/sh", *map(str, command)],
            env=environment,
            # One process group, which loses its power as a whole.
            start_new_session=True,
            capture_output=True,
            text=True,
            check=False,
        )

    def versions(self, *arguments: str | Path, cut_after: int = NEVER) -> subprocess.CompletedProcess[str]:
        """Run midge-versions."""
        return self.run(self.opt / "bin/midge-versions", *arguments, cut_after=cut_after)

    def current(self) -> str:
        """The version that runs."""
        return (self.opt / "current").readlink().name

    def put_version(self, version: str, fate: str) -> None:
        """Have a version installed that is nothing but a fate."""
        folder = self.opt / "versions" / version
        folder.mkdir(parents=True)
        (folder / "fate").write_text(f"{fate}\n")
        (folder / ".complete").touch()
