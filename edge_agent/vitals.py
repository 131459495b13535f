"""What the machine is, and how it feels, read from Linux' own files."""

import contextlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from edge_agent.events import VitalsMeasured

PROC = Path("/proc")
SYS = Path("/sys")
MODEL = PROC / "device-tree/model"


def measure(pids: Iterable[int], proc: Path = PROC, sys: Path = SYS) -> VitalsMeasured:
    """Resident memory of these processes, in bytes, the hottest zone, in degrees Celsius, and the battery."""
    return VitalsMeasured(resident_bytes(pids, proc), hottest_c(sys), battery(sys))


def machine() -> str:
    """The board's name where it has one, and the architecture."""
    with contextlib.suppress(OSError):
        return f"{MODEL.read_text(errors='replace').rstrip(chr(0))} {platform.machine()}"
    return platform.machine()


def total_memory_bytes() -> int:
    """How much memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resident_bytes(pids: Iterable[int], proc: Path = PROC) -> int:
    """What these processes have in memory, those that are gone nothing."""
    return sum(_resident_bytes(proc / str(pid)) for pid in pids)


def hottest_c(sys: Path = SYS) -> float | None:
    """Temperature of the hottest zone, in degrees Celsius; None where none is measured."""
    temperatures = []
    for zone in sys.glob("class/thermal/thermal_zone*/temp"):
        with contextlib.suppress(OSError, ValueError):
            temperatures.append(int(zone.read_text()) / 1000)
    return max(temperatures, default=None)


def available_memory_bytes(proc: Path = PROC) -> int | None:
    """What can still be had without swapping; None where the kernel does not say."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        lines = (proc / "meminfo").read_text().splitlines()
        sizes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        return sizes[0] * 1024
    return None


def throttled(sys: Path = SYS) -> int | None:
    """Flags of a Raspberry Pi's firmware, as vcgencmd get_throttled has them; None on other machines."""
    for path in sys.glob("devices/platform/soc*/soc*:firmware/get_throttled"):
        with contextlib.suppress(OSError, ValueError):
            return int(path.read_text(), 16)
    return None


def battery(sys: Path = SYS) -> float | None:
    """Charge left (0..1) of the emptiest battery that the machine draws on; None where none is drawn on.

    Batteries of mice and the like power themselves only, and say so by their scope.
    Source: https://docs.kernel.org/admin-guide/abi-testing.html (sysfs-class-power)
    """
    charges = []
    for supply in sys.glob("class/power_supply/*"):
        kind, scope, status = (_word(supply / name) for name in ("type", "scope", "status"))
        if kind == "Battery" and scope != "Device" and status in {"Discharging", "Unknown", ""}:
            with contextlib.suppress(OSError, ValueError):
                # A gauge that needs calibration may say a little more than all.
                charges.append(min(max(0, int((supply / "capacity").read_text())), 100) / 100)
    return min(charges, default=None)


def _word(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def _resident_bytes(process: Path) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
