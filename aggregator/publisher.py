"""Blobs onto the broker and off it: retained chunks, a few unacknowledged at a time."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from broker.messages import BlobRef
from broker.session import Session
from broker.topics import BLOB_CHUNK, Topics

IN_FLIGHT = 32

log = logging.getLogger(__name__)


class _Chunk(NamedTuple):
    topic: str
    payload: bytes
    expiry_s: int | None


@dataclass(slots=True)
class _Job:
    ref: BlobRef
    chunks: Iterator[_Chunk]
    done: Callable[[], None]
    held: _Chunk | None = None
    tickets: set[int] = field(default_factory=set)
    exhausted: bool = False
    denied: str = ""

    def next(self) -> _Chunk | None:
        chunk, self.held = self.held or next(self.chunks, None), None
        self.exhausted = chunk is None
        return chunk

    def give_up(self) -> None:
        self.chunks, self.held, self.done = iter(()), None, _nothing


class Publisher:
    """One blob after the other, in the order asked for; a lost connection forgets them all."""

    def __init__(self, session: Session, topics: Topics, expiry_s: int) -> None:
        self._session = session
        self._topics = topics
        self._expiry_s = expiry_s
        self._jobs: deque[_Job] = deque()

    def put(self, path: Path, ref: BlobRef, done: Callable[[], None]) -> None:
        """Publish every chunk of a blob; `done` is called when the broker acknowledged all of them."""
        self._jobs.append(_Job(ref, self._chunks(path, ref), done))
        self.pump()

    def clear(self, ref: BlobRef) -> None:
        """Take every chunk of a blob off the broker: an empty retained message deletes the one before.

        What of it was not published yet never will be: its file may be gone from now on.
        """
        for job in self._jobs:
            if job.ref == ref:
                job.give_up()
        topics = (
            self._topics.topic(BLOB_CHUNK, digest=ref.digest, index=index) for index in range(ref.chunks)
        )
        self._jobs.append(_Job(ref, (_Chunk(topic, b"", None) for topic in topics), _nothing))
        self.pump()

    def acknowledged(self, ticket: int, *, ok: bool, reason: str) -> None:
        """The broker took a message, or refused it."""
        job = self._jobs[0] if self._jobs else None
        if job is None or ticket not in job.tickets:
            return
        job.tickets.remove(ticket)
        if not ok and not job.denied:
            job.denied = reason
            log.error(
                "the broker refused a blob: %s; the aggregator needs the right to write blobs/#", reason
            )
        self.pump()

    def forget(self) -> None:
        """The connection is gone, and every promise with it."""
        self._jobs.clear()

    def pump(self) -> None:
        """Send what may be sent now."""
        while self._jobs and self._send(self._jobs[0]):
            job = self._jobs.popleft()
            if not job.denied:
                job.done()

    def _send(self, job: _Job) -> bool:
        """Fill the window; True when the job is done with."""
        while len(job.tickets) < IN_FLIGHT and not job.exhausted:
            chunk = job.next()
            if chunk is None:
                break
            ticket = self._session.publish(chunk.topic, chunk.payload, retain=True, expiry_s=chunk.expiry_s)
            if ticket is None:
                job.held = chunk
                return False
            job.tickets.add(ticket)
        return job.exhausted and not job.tickets

    def _chunks(self, path: Path, ref: BlobRef) -> Iterator[_Chunk]:
        with path.open("rb") as file:
            for index in range(ref.chunks):
                topic = self._topics.topic(BLOB_CHUNK, digest=ref.digest, index=index)
                yield _Chunk(topic, file.read(ref.chunk_bytes), self._expiry_s)


def _nothing() -> None:
    """Nobody waits for this."""
