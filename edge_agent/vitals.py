"""What the machine is, and how it feels, read from Linux' own files."""

import contextlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from edge_agent.events import VitalsMeasured

PROC = Path("/proc")
THERMAL = Path("/sys/class/thermal")
MODEL = PROC / "device-tree/model"


def measure(pids: Iterable[int], proc: Path = PROC, thermal: Path = THERMAL) -> VitalsMeasured:
    """Resident memory of these processes, in bytes, and the hottest zone, in degrees Celsius."""
    return VitalsMeasured(sum(_resident_bytes(proc / str(pid)) for pid in pids), _hottest_c(thermal))


def machine() -> str:
    """The board's name where it has one, and the architecture."""
    with contextlib.suppress(OSError):
        return f"{MODEL.read_text(errors='replace').rstrip(chr(0))} {platform.machine()}"
    return platform.machine()


def total_memory_bytes() -> int:
    """How much memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _resident_bytes(process: Path) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _hottest_c(thermal: Path) -> float | None:
    temperatures = []
    for zone in thermal.glob("thermal_zone*/temp"):
        with contextlib.suppress(OSError, ValueError):
            temperatures.append(int(zone.read_text()) / 1000)
    return max(temperatures, default=None)
