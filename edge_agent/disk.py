"""The state folder's disk when it takes nothing: that is remembered, and tried again now and then."""

from edge_agent.snapshot import Snapshot
from edge_agent.store import Store
from host.errors import StorageError

# A full disk may be emptied at any time; a dying card is not to be written to all the time.
RETRY_S = 30.0


class Disk:
    """Saves snapshots; `fault` says why the last one is not on the disk, empty when it is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._retry_at = 0.0
        self.fault = ""
        self.failures = 0
        """In a row."""

    def save(self, snapshot: Snapshot, now: float) -> None:
        """Have it on the disk; raises StorageError."""
        try:
            self._store.save(snapshot)
        except StorageError as error:
            self.fault, self._retry_at = str(error), now + RETRY_S
            self.failures += 1
            raise
        self.fault, self.failures = "", 0

    def mended(self, snapshot: Snapshot, now: float) -> bool:
        """Whether a fault is over, and the snapshot on the disk."""
        if not self.fault or now < self._retry_at:
            return False
        try:
            self.save(snapshot, now)
        except StorageError:
            return False
        return True
