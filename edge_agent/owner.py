"""`midge-agent pause`, `resume` and `status`: what the owner of a device says to its agent, and asks."""

import sys
from pathlib import Path

from pydantic import ValidationError

from edge_agent.conditions import find_hindrance
from edge_agent.pausing import read_clock, read_pause, remove_pause, told_duration, write_pause
from edge_agent.settings import AgentSettings
from edge_agent.store import STATE, is_in_use, peek
from edge_agent.surroundings import look_around
from host.exits import ExitCode


def pause(settings: AgentSettings, for_s: float | None) -> ExitCode:
    """Have the agent take no part for so long; None: until it is resumed. Raises StorageError."""
    clock = read_clock()
    _say(f"{settings.device} is paused {write_pause(settings.state_folder, for_s, clock).told(clock)}")
    return ExitCode.OK


def resume(settings: AgentSettings) -> ExitCode:
    """End a pause; raises StorageError."""
    was_paused = remove_pause(settings.state_folder)
    _say(f"{settings.device} goes on" if was_paused else f"{settings.device} was not paused")
    return ExitCode.OK


def status(settings: AgentSettings) -> ExitCode:
    """Say whether the agent runs, whether it would take part in a round now, and what it has to deliver."""
    folder = settings.state_folder
    _say(f"{settings.device} {'runs' if is_in_use(folder) else 'does not run'}")
    hindrance = find_hindrance(look_around(folder), settings)
    _say(f"not available, {hindrance.reason}: {hindrance.detail}" if hindrance else "available")
    pause, clock = read_pause(folder), read_clock()
    if pause is not None and (left_s := pause.left_s(clock)):
        _say(f"paused for another {told_duration(left_s)}")
    _say(_pending(folder))
    return ExitCode.OK


def _pending(folder: Path) -> str:
    try:
        pending = peek(folder).pending
    except ValidationError:
        return f"{folder / STATE} is damaged: the agent puts it aside when it starts"
    if pending is None:
        return "no update waits to be delivered"
    return f"the update of round {pending.round} of run {pending.run} waits to be delivered"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
