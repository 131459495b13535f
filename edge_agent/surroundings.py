"""What it is like on the device: everything that `conditions` judges, read from the machine."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from edge_agent.conditions import Conditions
from edge_agent.hours import TimeOfDay
from edge_agent.pausing import Clock, read_clock, read_pause
from edge_agent.vitals import available_memory_bytes, battery, hottest_c, resident_bytes, throttled


def look_around(folder: Path, trainer: Iterable[int] = (), disk_fault: str = "") -> Conditions:
    """Read pause, clock, disk and sensors; of the state folder, and the process of the trainer if any."""
    clock, memory = read_clock(), available_memory_bytes()
    pause = read_pause(folder)
    free, read_only = _disk(folder)
    return Conditions(
        pause=pause.told(clock) if pause else "",
        time=local_time(clock),
        disk_fault=read_only or disk_fault,
        free_disk_bytes=free,
        temperature_c=hottest_c(),
        throttled=throttled(),
        battery=battery(),
        free_memory_bytes=None if memory is None else memory + resident_bytes(trainer),
    )


def local_time(clock: Clock) -> TimeOfDay | None:
    """The time of day here; None while no clock is set."""
    if clock.unix_s is None:
        return None
    local = time.localtime(clock.unix_s)
    return TimeOfDay(local.tm_hour, local.tm_min)


def _disk(folder: Path) -> tuple[int | None, str]:
    """Bytes that are free in the folder, and why it takes none."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(folder)
        read_only = disk.f_flag & os.ST_RDONLY
        return (
            disk.f_bavail * disk.f_frsize,
            "state_folder is read-only: look at the card" if read_only else "",
        )
    return None, ""
