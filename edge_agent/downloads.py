"""Blobs on their way from the broker to the state folder."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from broker.download import Download, Step
from broker.messages import BlobRef
from broker.partfile import PartFile
from broker.session import Session
from broker.topics import BLOB_CHUNK, Topics
from edge_agent.events import Fetched, FetchFailed, FetchFault
from edge_agent.store import Store
from host.errors import StorageError, WireError

STALL_S = 5.0
# A window is about what a slow link carries in a second: so long do our orders wait behind it.
MAX_WINDOW = 16
MIN_WINDOW = 2
WINDOW_BYTES = 512 << 10

Outcome = Fetched | FetchFailed


@dataclass
class _Arriving:
    ref: BlobRef
    file: PartFile
    download: Download
    stalls_at: float


class Downloads:
    """Subscribes to windows of chunk topics and writes what comes; only for the loop's thread."""

    def __init__(self, store: Store, session: Session, topics: Topics) -> None:
        self._store = store
        self._session = session
        self._topics = topics
        self._arriving: dict[str, _Arriving] = {}
        self.bytes_down = 0

    def fetch(self, refs: Iterable[BlobRef], now: float) -> list[Outcome]:
        """Begin with what is not on disk, drop all other blobs; what is settled at once."""
        refs = tuple(refs)
        self.stop(kept := {ref.digest for ref in refs})
        outcomes: list[Outcome] = []
        try:
            self._store.keep_blobs(refs)
            self._store.check_room(refs)
            for ref in refs:
                if ref.digest in self._arriving:
                    continue
                outcomes += [Fetched(ref.digest)] if self._store.has_blob(ref) else self._begin(ref, now)
        except (OSError, StorageError) as error:
            return [FetchFailed(digest, FetchFault.STORAGE, str(error)) for digest in kept]
        return outcomes

    def stop(self, kept: Iterable[str] = ()) -> None:
        """Give up all downloads but those of `kept`; what has arrived stays for a later one."""
        for digest in set(self._arriving) - set(kept):
            self._leave(self._arriving.pop(digest))

    def connected(self, now: float) -> None:
        """Subscribe anew: subscriptions end with their connection."""
        for arriving in self._arriving.values():
            self._take(arriving, arriving.download.start(), now)

    def chunk(self, digest: str, index: int, data: bytes, now: float) -> list[Outcome]:
        """Put a chunk into its place; the outcome when it was the last one or no good."""
        arriving = self._arriving.get(digest)
        if arriving is None:
            return []
        try:
            self.bytes_down += len(data)
            arriving.file.write(index, data)
            self._take(arriving, arriving.download.received(index), now)
            if not arriving.file.complete:
                return []
            arriving.file.finish()
            outcome: Outcome = Fetched(digest)
        except WireError as error:
            outcome = FetchFailed(digest, FetchFault.CONTENT, str(error))
        except StorageError as error:
            # What has arrived is in the way of others now, our own state among them.
            with contextlib.suppress(StorageError):
                arriving.file.discard()
            outcome = FetchFailed(digest, FetchFault.STORAGE, str(error))
        self._leave(self._arriving.pop(digest))
        return [outcome]

    def next_deadline(self) -> float | None:
        """When to call `fire`."""
        return min((arriving.stalls_at for arriving in self._arriving.values()), default=None)

    def fire(self, now: float) -> None:
        """Ask again for chunks that did not come."""
        for arriving in self._arriving.values():
            if now >= arriving.stalls_at:
                self._take(arriving, arriving.download.stalled(), now)

    def _begin(self, ref: BlobRef, now: float) -> list[Outcome]:
        file = self._store.part(ref)
        download = Download(ref, file.bitmap, window_for(ref.chunk_bytes))
        arriving = _Arriving(ref, file, download, now)
        self._arriving[ref.digest] = arriving
        if file.complete:
            return self._finish_resumed(arriving)
        self._take(arriving, arriving.download.start(), now)
        return []

    def _finish_resumed(self, arriving: _Arriving) -> list[Outcome]:
        """Finish a file that was complete when the agent last stopped."""
        del self._arriving[arriving.ref.digest]
        try:
            arriving.file.finish()
        except WireError as error:
            return [FetchFailed(arriving.ref.digest, FetchFault.CONTENT, str(error))]
        return [Fetched(arriving.ref.digest)]

    def _take(self, arriving: _Arriving, step: Step, now: float) -> None:
        """Carry out a step; each one means that something moved, or was asked for again."""
        arriving.stalls_at = now + STALL_S
        if step.unsubscribe:
            self._session.unsubscribe([self._topic(arriving.ref, index) for index in step.unsubscribe])
        if step.subscribe:
            self._session.subscribe([(self._topic(arriving.ref, index), 1) for index in step.subscribe])

    def _leave(self, arriving: _Arriving) -> None:
        if subscribed := arriving.download.subscribed:
            self._session.unsubscribe([self._topic(arriving.ref, index) for index in subscribed])

    def _topic(self, ref: BlobRef, index: int) -> str:
        return self._topics.topic(BLOB_CHUNK, digest=ref.digest, index=index)


def window_for(chunk_bytes: int) -> int:
    """How many chunks of this size are subscribed to at once."""
    return max(MIN_WINDOW, min(MAX_WINDOW, WINDOW_BYTES // chunk_bytes))
