"""Granted chunks on their way to the broker, a few at a time."""

from broker.messages import BlobRef
from broker.session import Session
from broker.topics import UPDATE_CHUNK, Topics
from edge_agent.events import UpdateLost
from edge_agent.store import Store
from host.errors import StorageError

# So little that a heartbeat is never stuck behind it for long: 0.6 s where 512 kB/s go up.
MAX_IN_FLIGHT = 4
BYTES_IN_FLIGHT = 288 << 10
MAX_WAITING = 1024


class Uploads:
    """Sends chunks of the pending update; only for the loop's thread."""

    def __init__(self, store: Store, session: Session, topics: Topics, device: str) -> None:
        self._store = store
        self._session = session
        self._topics = topics
        self._device = device
        self._update: BlobRef | None = None
        # A dict for its order: an index granted twice is sent once.
        self._waiting: dict[int, None] = {}
        self._in_flight: set[int] = set()
        self.bytes_up = 0

    def send(self, update: BlobRef, indexes: tuple[int, ...]) -> list[UpdateLost]:
        """Send these chunks too; those beyond a bound are left to a later grant."""
        if update != self._update:
            self.stop()
            self._update = update
        room = MAX_WAITING - len(self._waiting)
        self._waiting.update(dict.fromkeys(indexes[:room]))
        return self._pump()

    def acknowledged(self, ticket: int) -> list[UpdateLost]:
        """Send the next chunk, if it was one of ours that the broker took."""
        if ticket not in self._in_flight:
            return []
        self._in_flight.remove(ticket)
        return self._pump()

    def stop(self) -> None:
        """Forget what waits; what is still missing will be granted again."""
        self._waiting.clear()
        self._in_flight.clear()

    def delete(self, transfer: str) -> None:
        """Remove an update that is settled."""
        self.stop()
        self._store.delete_update(transfer)

    def _pump(self) -> list[UpdateLost]:
        assert self._update is not None
        most = max(1, min(MAX_IN_FLIGHT, BYTES_IN_FLIGHT // self._update.chunk_bytes))
        while self._waiting and len(self._in_flight) < most:
            index = next(iter(self._waiting))
            try:
                chunk = self._store.read_chunk(self._update, index)
            except StorageError as error:
                self.stop()
                return [UpdateLost(self._update.transfer, str(error))]
            ticket = self._publish(self._update, index, chunk)
            if ticket is None:
                self.stop()
                return []
            del self._waiting[index]
            self.bytes_up += len(chunk)
            self._in_flight.add(ticket)
        return []

    def _publish(self, update: BlobRef, index: int, chunk: bytes) -> int | None:
        topic = self._topics.topic(UPDATE_CHUNK, device=self._device, transfer=update.transfer, index=index)
        return self._session.publish(topic, chunk, qos=UPDATE_CHUNK.qos)
