"""What each device did when, for pictures."""

from bisect import bisect_right
from collections.abc import Iterator
from enum import StrEnum

from broker.messages import AgentState


class Doing(StrEnum):
    """What a device is doing, as its operator would say it."""

    DOWNLOADS = "downloads"
    TRAINS = "trains"
    WAITS = "waits for its turn to upload"
    UPLOADS = "uploads"
    EVALUATES = "evaluates"
    IDLE = "idle"
    AWAY = "away"


_BY_STATE = {
    AgentState.FETCHING: Doing.DOWNLOADS,
    AgentState.TRAINING: Doing.TRAINS,
    AgentState.UPLOADING: Doing.WAITS,
    AgentState.EVALUATING: Doing.EVALUATES,
}


def doing(state: AgentState | None, *, connected: bool, sending: bool) -> Doing:
    """Say what an agent in this state does; None: there is no agent. One that is cut off may still work."""
    if state is None:
        return Doing.AWAY
    if state is AgentState.UPLOADING and sending:
        return Doing.UPLOADS
    return _BY_STATE.get(state, Doing.IDLE if connected else Doing.AWAY)


class Timeline:
    """Changes of every device, in order; times in seconds of the simulation."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = {}
        self._doings: dict[str, list[Doing]] = {}

    def note(self, device: str, what: Doing, now: float) -> None:
        """A device does this from now on."""
        doings = self._doings.setdefault(device, [])
        if not doings or doings[-1] is not what:
            doings.append(what)
            self._times.setdefault(device, []).append(now)

    def spans(self, device: str, begin: float, end: float) -> Iterator[tuple[Doing, float, float]]:
        """List what a device did between two times, and from when to when."""
        times, doings = self._times.get(device, []), self._doings.get(device, [])
        first = max(0, bisect_right(times, begin) - 1)
        for place in range(first, len(times)):
            starts, stops = times[place], times[place + 1] if place + 1 < len(times) else end
            if starts >= end:
                return
            if stops > begin:
                yield doings[place], max(starts, begin), min(stops, end)
