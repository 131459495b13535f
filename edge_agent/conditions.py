"""Under which conditions a device takes part in no round: pure, over measurements, settings and the time."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from broker.messages import DeclineReason
from edge_agent.availability import Hindrance
from edge_agent.hours import TimeOfDay, is_within
from edge_agent.settings import AgentSettings

# Flags that hold now, without the soft limit, which only keeps the clock down a little.
# Source: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
THROTTLED_NOW = {1 << 0: "under-voltage", 1 << 1: "frequency capped", 1 << 2: "throttled"}
# With less, a snapshot may find no room; downloads keep more than that free.
MIN_FREE_DISK_BYTES = 8 << 20


@dataclass(frozen=True)
class Conditions:
    """What it is like on the device now; None: unknown."""

    pause: str = ""
    """How long the owner paused the agent for; empty when it is not paused."""
    time: TimeOfDay | None = None
    """By the local clock; None while no clock is set."""
    disk_fault: str = ""
    """Why the state folder cannot be written to."""
    free_disk_bytes: int | None = None
    temperature_c: float | None = None
    throttled: int | None = None
    """Flags of a Raspberry Pi's firmware."""
    battery: float | None = None
    """0..1; None also while it is charged."""
    free_memory_bytes: int | None = None
    """What would be free without the trainer."""


def find_hindrance(now: Conditions, settings: AgentSettings) -> Hindrance | None:
    """Find the first reason to take part in no round, the owner's wishes before all; None: there is none.

    What is unknown hinders nothing, save the time: hours that cannot be judged are not kept by training.
    """
    return next(chain(_unwanted(now, settings), _disk(now), _machine(now, settings)), None)


def _unwanted(now: Conditions, settings: AgentSettings) -> Iterator[Hindrance]:
    if now.pause:
        yield Hindrance(DeclineReason.PAUSED, f"paused by its owner {now.pause}")
    allowed = ", ".join(settings.hours)
    if allowed and now.time is None:
        yield Hindrance(DeclineReason.HOURS, f"no clock is set, and it takes part at {allowed} only (hours)")
    elif now.time is not None and allowed and not any(is_within(span, now.time) for span in settings.hours):
        yield Hindrance(DeclineReason.HOURS, f"takes part at {allowed} only (hours)")


def _disk(now: Conditions) -> Iterator[Hindrance]:
    if now.disk_fault:
        yield Hindrance(DeclineReason.DISK, now.disk_fault)
    if now.free_disk_bytes is not None and now.free_disk_bytes < MIN_FREE_DISK_BYTES:
        free, needed = now.free_disk_bytes >> 20, MIN_FREE_DISK_BYTES >> 20
        yield Hindrance(DeclineReason.DISK, f"{free} MiB free for state_folder, at least {needed}: free some")


def _machine(now: Conditions, settings: AgentSettings) -> Iterator[Hindrance]:
    hottest, emptiest = settings.max_temperature_c, settings.min_battery
    if now.temperature_c is not None and hottest is not None and now.temperature_c > hottest:
        yield Hindrance(
            DeclineReason.HEAT, f"{now.temperature_c:.1f} °C, at most {hottest:g} (max_temperature_c)"
        )
    flags = [name for flag, name in THROTTLED_NOW.items() if (now.throttled or 0) & flag]
    if flags and settings.decline_throttled:
        detail = f"{', '.join(flags)} (decline_throttled): look at power supply and cooling"
        yield Hindrance(DeclineReason.THROTTLED, detail)
    if now.battery is not None and now.battery < emptiest:
        yield Hindrance(DeclineReason.BATTERY, f"{now.battery:.0%}, at least {emptiest:.0%} (min_battery)")
    if now.free_memory_bytes is not None and now.free_memory_bytes < settings.min_free_memory_bytes:
        free, needed = now.free_memory_bytes >> 20, settings.min_free_memory_bytes >> 20
        yield Hindrance(DeclineReason.MEMORY, f"{free} MiB free, at least {needed} (min_free_memory_bytes)")
