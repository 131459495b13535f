"""The parts of the aggregator's shell that move updates and blobs: the real ones, on simulated disks."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.events import Event
from aggregator.deeds import Deeds
from aggregator.intake import IntakeLimits
from aggregator.opening import Opening
from aggregator.publisher import Publisher, _Chunk
from aggregator.records import Incident
from aggregator.room import Room
from aggregator.uploads import Uploads, _Upload
from broker.messages import BlobRef, Grant, RejectReason
from broker.topics import BLOB_CHUNK, Topics
from deploy.simulator.disk import Disk, SimulatedSpool, zeros
from deploy.simulator.session import SimulatedSession
from host.errors import StorageError, WireError
from host.loop import Jobs

# Verifying an update, or aggregating small ones.
WORKING_S = (0.01, 0.5)

Later: TypeAlias = Callable[[tuple[float, float], Callable[[], None]], None]


class SimulatedJobs(Jobs):
    """Long work, one after the other; `later` does something after some time if the process still lives."""

    def __init__(self, later: Later) -> None:
        self.later = later
        self._waiting: deque[Callable[[], None]] = deque()
        self._working = False

    def submit(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None]
    ) -> None:
        """Run `work` when its turn comes and its time is over, then `done` or `failed`."""

        def run() -> None:
            try:
                result = work()
            except StorageError as error:
                failed(error)
            else:
                done(result)

        self._waiting.append(run)
        self._next()

    def close(self) -> None:
        """Nobody waits."""

    def _next(self) -> None:
        if self._waiting and not self._working:
            self._working = True
            run = self._waiting.popleft()
            self.later(WORKING_S, lambda: self._run(run))

    def _run(self, run: Callable[[], None]) -> None:
        self._working = False
        run()
        self._next()


class SimulatedUploads(Uploads):
    """The aggregator's intake; what it verifies is found sound unless the disk tore it."""

    def __init__(
        self,
        spool: SimulatedSpool,
        jobs: Jobs,
        limits: IntakeLimits,
        send: Callable[[str, Grant], None],
        tell: Callable[[Event], None],
        filled: Callable[[Exception], None],
    ) -> None:
        nothing_is_sealed = Opening(Topics("simulated"), None, required=False)
        super().__init__(spool, jobs, limits, send, tell, filled=filled, opening=nothing_is_sealed)
        self._simulated = spool

    def _verify(self, device: str, upload: _Upload) -> RejectReason | None:
        assert upload.part is not None
        try:
            upload.part.finish()
        except WireError:
            return RejectReason.DIGEST
        offer = upload.offer
        self._simulated.keep(offer.run, offer.round, device, offer.update.digest)
        return None


class SimulatedRoom(Room):
    """Looks at a simulated disk."""

    def __init__(
        self,
        disk: Disk,
        core: Coordinator,
        deeds: Deeds,
        tell: Callable[[Event], None],
        note: Callable[[Incident], None],
    ) -> None:
        super().__init__(Path(), core, deeds, tell, note)
        self._disk = disk

    def _has_room(self, _wanted_bytes: int) -> bool:
        return not self._disk.full


class SimulatedPublisher(Publisher):
    """Puts blobs on the broker that are as long as they should be."""

    def __init__(self, session: SimulatedSession, topics: Topics, expiry_s: int) -> None:
        super().__init__(session, topics, expiry_s)
        self._refs: dict[str, BlobRef] = {}

    def put_blob(self, ref: BlobRef, done: Callable[[], None]) -> None:
        """Publish every chunk of a blob."""
        self.put(Path(ref.digest), ref, done)

    def _chunks(self, path: Path, ref: BlobRef) -> Iterator[_Chunk]:
        topic = partial(self._topics.topic, BLOB_CHUNK, digest=path.name)
        return (_Chunk(topic(index=index), zeros(ref, index), self._expiry_s) for index in range(ref.chunks))
