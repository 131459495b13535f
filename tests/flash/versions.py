"""Other versions of midge, made of a wheelhouse: one as good, and one that never reaches the broker."""

import shutil
import zipfile
from pathlib import Path

from deploy.card.wheelhouse import SUMS, seal

# It starts, tells systemd so, and does nothing more: what a wrong release does at its worst.
MUTE = """
import os, signal, socket

def main():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"READY=1")
    signal.pause()
"""
AGENT = "edge_agent/main.py"


def other_version(wheelhouse: Path, folder: Path, agent: str | None = None) -> Path:
    """A copy that installs as another version, with another agent if one is given."""
    shutil.copytree(wheelhouse, folder)
    (folder / SUMS).unlink()
    (wheel,) = folder.glob("midge-*.whl")
    with zipfile.ZipFile(wheel) as whole:
        content = {name: whole.read(name) for name in whole.namelist()}
    content["edge_agent/other.txt"] = folder.name.encode()
    if agent is not None:
        content[AGENT] = agent.encode()
    with zipfile.ZipFile(wheel, "w") as changed:
        for name, part in content.items():
            changed.writestr(name, part)
    seal(folder, wheel.name.split("-")[1])
    return folder
