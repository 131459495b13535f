"""The owner's pause: a small file in the state folder, written by `midge-agent pause`, seen by the agent.

A device may have no clock until the network gives it one, and may be restarted in the middle of a pause. So a
pause is measured by the time since boot; after another boot by the clock, if it was set both then and now;
else it begins anew with the boot.
"""

import contextlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from host.errors import StorageError
from host.files import sync_folder, write_atomic

NAME = "paused.json"
MAX_BYTES = 4096
MAX_FOR_S = 366 * 86400.0
# 2024-01-01: a clock that shows an earlier time was never set.
CLOCK_SET_UNIX_S = 1_704_067_200.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Clock:
    """What can be known of the time: seconds since a boot, and the Unix time, None while no clock is set."""

    boot: str
    boot_s: float
    unix_s: float | None


class Pause(BaseModel):
    """When a pause began, and for how long it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    for_s: float | None = Field(default=None, gt=0, le=MAX_FOR_S, description="None: until it is resumed")
    boot: str = Field(default="", max_length=64)
    boot_s: float = 0.0
    unix_s: float | None = None

    def left_s(self, now: Clock) -> float | None:
        """Seconds until it is over, 0 when it is; None: until it is resumed."""
        if self.for_s is None:
            return None
        if now.boot == self.boot:
            passed = now.boot_s - self.boot_s
        elif now.unix_s is not None and self.unix_s is not None:
            passed = now.unix_s - self.unix_s
        else:
            passed = now.boot_s
        return max(0.0, self.for_s - passed)

    def told(self, now: Clock) -> str:
        """How long, for people; empty when it is over. The same for as long as it lasts."""
        if self.for_s is None:
            return "until midge-agent resume"
        return f"for {told_duration(self.for_s)}" if self.left_s(now) else ""


def read_clock() -> Clock:
    """Look at the clocks of this machine."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = BOOT_ID.read_text(encoding="ascii").strip()
    unix_s = time.time()
    return Clock(
        boot, time.clock_gettime(time.CLOCK_BOOTTIME), unix_s if unix_s >= CLOCK_SET_UNIX_S else None
    )


def write_pause(folder: Path, for_s: float | None, now: Clock) -> Pause:
    """Pause the agent of this state folder; raises StorageError."""
    pause = Pause(for_s=for_s, boot=now.boot, boot_s=now.boot_s, unix_s=now.unix_s)
    try:
        write_atomic(folder / NAME, pause.model_dump_json().encode())
    except OSError as error:
        raise StorageError(f"{folder / NAME} cannot be written: {error}; see state_folder") from None
    return pause


def remove_pause(folder: Path) -> bool:
    """Let the agent go on; whether it was paused. Raises StorageError."""
    try:
        (folder / NAME).unlink()
        sync_folder(folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"{folder / NAME} cannot be removed: {error}") from None
    return True


def read_pause(folder: Path) -> Pause | None:
    """The pause of this state folder; one that cannot be read lasts until it is resumed."""
    try:
        with (folder / NAME).open("rb") as file:
            return Pause.model_validate_json(file.read(MAX_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        return Pause()


def read_duration(text: str) -> float:
    """Seconds of such as 90s, 45m, 2h or 1d; raises ValueError."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    seconds = int(found[1]) * UNITS_S[found[2]] if found else 0
    if not 0 < seconds <= MAX_FOR_S:
        raise ValueError(f"{text!r} is no duration: write it as 90s, 45m, 2h or 1d, at most 366d")
    return float(seconds)


def told_duration(seconds: float) -> str:
    """Hours and minutes, rounded up; seconds where there are few."""
    if seconds < UNITS_S["m"]:
        return f"{seconds:.0f} s"
    minutes = -int(-seconds // 60)
    hours, rest = divmod(minutes, 60)
    return " ".join(part for part in (hours and f"{hours} h", rest and f"{rest} min") if part)
