"""Who came, went and came back, between two looks at the fleet."""

from collections.abc import Iterator

from aggregator.coordinator.fleet import Fleet
from broker.happenings import EventKind, Happening, Severity


class Attendance:
    """Who was there at the last look; what an earlier process knew of is no news."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._there = dict.fromkeys(fleet.devices, True)
        self._conflicts: set[str] = set()

    def was_there(self, device: str, *, online: bool) -> None:
        """The broker had kept this of a device from earlier: it joined, or left, while nobody listened."""
        self._there.setdefault(device, online)

    def look(self, now: float, unix_s: float) -> Iterator[Happening]:
        """What changed."""
        for name, device in self._fleet.devices.items():
            alive, before = self._fleet.alive(name, now), self._there.get(name)
            self._there[name] = alive
            if before is None and alive:
                yield _told(EventKind.JOINED, unix_s, name, f"{name} joined")
            elif before is False and alive:
                yield _told(EventKind.BACK, unix_s, name, f"{name} is back")
            elif before and not alive:
                why = self._fleet.why_lost(name, now)
                yield _told(EventKind.LOST, unix_s, name, f"{name} is lost: {why}", why)
            if device.conflict and name not in self._conflicts:
                self._conflicts.add(name)
                why = "two machines use this id: set one of them up under another"
                yield _told(EventKind.CONFLICT, unix_s, name, f"{name}: {why}", why)
        for name in self._there.keys() - self._fleet.devices.keys():
            del self._there[name]
            self._conflicts.discard(name)


_SEVERITIES = {EventKind.LOST: Severity.WARNING, EventKind.CONFLICT: Severity.ERROR}


def _told(kind: EventKind, unix_s: float, device: str, text: str, reason: str = "") -> Happening:
    severity = _SEVERITIES.get(kind, Severity.INFO)
    return Happening(
        number=0, at_unix_s=unix_s, kind=kind, severity=severity, text=text, device=device, reason=reason
    )
