"""Room on the disk: what happens when there is none, and when there is some again."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from aggregator.coordinator import events as on
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.stragglers import largest_update
from aggregator.deeds import Deeds
from aggregator.records import Incident, IncidentKind
from aggregator.spool import RESERVE_BYTES
from host.files import write_atomic

EVERY_S = 5.0
PROBE_BYTES = 1 << 20

log = logging.getLogger(__name__)


class Room:
    """Pauses the run for a full disk, looks every few seconds, and lets it go on."""

    def __init__(
        self,
        folder: Path,
        core: Coordinator,
        deeds: Deeds,
        tell: Callable[[on.Event], None],
        note: Callable[[Incident], None],
    ) -> None:
        self._folder = folder
        self._core = core
        self._deeds = deeds
        self._tell = tell
        self._note = note
        self._due = 0.0
        self.lacking = ""
        """Why nothing can be written, as far as is known; empty while it can."""

    def filled(self, error: Exception, now: float) -> None:
        """A write found no room."""
        self._due = now + EVERY_S
        if not self.lacking:
            log.error("%s; waiting until there is room", error)
        self.lacking = f"{error}; goes on by itself when there is room"
        self._tell(on.DiskFilled(self.lacking))

    def renew(self, now: float) -> None:
        """Look, if it is time to."""
        if now >= self._due:
            self.look(now)

    def look(self, now: float) -> None:
        """Do what was held, and go on, if there is room."""
        self._due, run = now + EVERY_S, self._core.run
        if not self._deeds.holding and (run is None or not run.waits_for_disk):
            self.lacking = ""
        elif self._has_room(largest_update(run.model) if run and run.model else 0):
            self._deeds.retry()
            if not self._deeds.holding:
                log.info("there is room on the disk again")
                run_id = run.run if run else None
                self._note(Incident(IncidentKind.NO_ROOM, run_id, None, "disk", self.lacking or "was full"))
                self.lacking = ""
                self._tell(on.DiskHasRoom())

    def _has_room(self, wanted_bytes: int) -> bool:
        return has_room(self._folder, wanted_bytes)


def has_room(folder: Path, wanted_bytes: int) -> bool:
    """Whether a file of `wanted_bytes` fits, with a reserve; a small one is tried, for quotas do not show."""
    probe = folder / "room.probe"
    try:
        if shutil.disk_usage(folder).free < RESERVE_BYTES + wanted_bytes:
            return False
        write_atomic(probe, bytes(PROBE_BYTES))
        probe.unlink()
    except OSError:
        return False
    return True
