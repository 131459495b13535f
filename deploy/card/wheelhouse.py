"""Wheels for a device that installs them without a network: midge, all it needs there, and pip itself."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.package.wheel import write_wheel
from host.errors import ConfigError, StorageError, first_line
from host.files import file_digest, write_atomic

VERSION, SUMS = "VERSION", "SHA256SUMS"
# A Raspberry Pi OS of Debian 12 has Python 3.11, of Debian 13 3.13.
PYTHONS = ("3.11", "3.13")
MACHINES = ("aarch64", "x86_64")
# Of the C library, from the newest that wheels are built for and both systems have.
_LIBRARIES = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
PIP_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Target:
    """What a wheelhouse is for."""

    python: str
    machine: str

    @property
    def tag(self) -> str:
        """Such as cp313-aarch64: the folder's name."""
        return f"cp{self.python.replace('.', '')}-{self.machine}"

    def options(self) -> list[str]:
        """Pip's options for wheels of this target only."""
        abi = f"cp{self.python.replace('.', '')}"
        platforms = [f"--platform={library}_{self.machine}" for library in _LIBRARIES]
        abis = [f"--abi={name}" for name in (abi, "abi3", "none")]
        return ["--implementation=cp", f"--python-version={self.python}", *abis, *platforms]


@dataclass(frozen=True)
class Wheelhouse:
    """A finished one."""

    version: str
    files: tuple[Path, ...]


def read_wheelhouse(folder: Path) -> Wheelhouse:
    """Look at one, and at each digest in it; raises ConfigError for what is none or is damaged."""
    try:
        version = (folder / VERSION).read_text().strip()
        lines = (folder / SUMS).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{folder} is no wheelhouse: {error}; midge wheelhouse makes one") from error
    named = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name, digest in named.items():
        if "/" in name or not (folder / name).is_file() or file_digest(folder / name) != digest:
            raise ConfigError(f"{folder}: {name} is missing or damaged: make the wheelhouse anew")
    return Wheelhouse(version, tuple(folder / name for name in sorted([*named, SUMS])))


def build_wheelhouse(target: Target, output: Path) -> Wheelhouse:
    """Download all wheels to OUTPUT/cp313-aarch64, beside that of this very midge.

    Raises ConfigError when the folder is there, and StorageError for what pip says.
    """
    folder = output / target.tag
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name another folder, or remove it first")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.tag}-", dir=output) as name:
        fresh = Path(name) / target.tag
        fresh.mkdir()
        own = write_wheel(Path(name))
        _pip(
            "download",
            "--quiet",
            "--only-binary=:all:",
            f"--dest={fresh}",
            *target.options(),
            str(own),
            "pip",
        )
        seal(fresh, own.name.split("-")[1])
        fresh.rename(folder)
    return read_wheelhouse(folder)


def seal(folder: Path, version: str) -> None:
    """Write version and digests beside wheels; two builds of one version are two versions on a device."""
    wheels = {path.name: file_digest(path) for path in sorted(folder.glob("*.whl"))}
    both = hashlib.sha256("".join(f"{name} {wheels[name]}\n" for name in wheels).encode()).hexdigest()
    write_atomic(folder / VERSION, f"{version}-{both[:8]}\n".encode())
    named = wheels | {VERSION: file_digest(folder / VERSION)}
    write_atomic(folder / SUMS, "".join(f"{named[name]}  {name}\n" for name in named).encode())


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-input", "--disable-pip-version-check"]
    try:
        ended = subprocess.run(  # noqa: S603  no shell
            command, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=PIP_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(f"pip did not work: {first_line(error)}") from error
    if ended.returncode:
        raise StorageError(f"pip found no such wheels: {_told(ended.stderr.splitlines())}")


def _told(lines: Iterable[str]) -> str:
    """Pip's errors, without addresses."""
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return re.sub(r"https?://\S+", "...", "; ".join(errors)) or "it says nothing of why"
