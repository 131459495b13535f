"""Run the installer, here or on a machine that ssh reaches; it says itself what it does."""

import io
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.units.catalogue import INSTALLER
from host.errors import ChildError, ConfigError

TRANSFER_S = 1800
# What arrives in part may have a key in it already.
UNPACK = """\
umask 077
d=$(mktemp -d "${TMPDIR:-/tmp}/midge.XXXXXX") || exit
tar -xzC "$d" && echo "$d" && exit
rm -rf "$d"
exit 1
"""
SSH_FAILED = 255
FOLDER = re.compile(r"^/[\w./-]+$")
HOST = re.compile(r"^[\w.@:\[\]%-]+$")


@dataclass(frozen=True)
class Place:
    """A machine, this one where `host` is None, and below which folder to install on it."""

    host: str | None = None
    root: Path | None = None
    ssh: Sequence[str] = ("ssh",)

    def __post_init__(self) -> None:
        if self.host is not None and (self.host.startswith("-") or not HOST.match(self.host)):
            raise ConfigError(f"--host {self.host}: write it as for ssh: USER@MACHINE")


def carry_out(payload: Path, place: Place, verb: str, options: Sequence[str]) -> None:
    """Install or uninstall what is in the payload's folder; raises ChildError when that fails."""
    asked = [verb, *([] if place.root is None else ["--root", str(place.root)]), *options]
    if place.host is None:
        here = ["sh", str(payload / INSTALLER), *asked]
        _expect(subprocess.run(here, check=False).returncode, "the installer")  # noqa: S603 - our own script
        return
    there = _send(payload, place)
    script = f"sh {there}/{INSTALLER} {shlex.join(asked)}"
    as_root = script if place.root or "--dry-run" in options else _with_rights(script)
    # However it ends, the keys in the payload do not stay there.
    command = f"trap 'rm -rf {there}' EXIT HUP INT TERM; {as_root}"
    # sudo may ask for a password, where somebody is there to give it.
    terminal = ["-t"] if sys.stdin.isatty() else []
    status = subprocess.run([*place.ssh, *terminal, place.host, command], check=False).returncode  # noqa: S603
    if status == SSH_FAILED:
        raise ChildError(
            f"{place.host} cannot be reached any more: run this again, and then remove {there} there, "
            "if it is left: it may hold keys"
        )
    _expect(status, f"the installer on {place.host}")


def _with_rights(script: str) -> str:
    return f'if [ "$(id -u)" -eq 0 ]; then {script}; else sudo {script}; fi'


def _send(payload: Path, place: Place) -> str:
    """Copy the payload into a folder of its own on the machine; its path there."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(payload, arcname=".")
    assert place.host is not None
    command = [*place.ssh, place.host, UNPACK]
    try:
        sent = subprocess.run(  # noqa: S603 - ssh, as the operator names it
            command, input=packed.getvalue(), stdout=subprocess.PIPE, timeout=TRANSFER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ChildError(f"{place.host} cannot be reached: {error}") from None
    folder = sent.stdout.decode(errors="replace").strip().rpartition("\n")[2]
    if sent.returncode or not FOLDER.match(folder):
        raise ChildError(
            f"{place.host} did not take the files (status {sent.returncode}): try ssh {place.host}"
        )
    return folder


def _expect(status: int, what: str) -> None:
    if status:
        raise ChildError(f"{what} failed with status {status}; mend what it says, and run this again")
