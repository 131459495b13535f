"""Many devices on one connection: they are born, beat, train for a while, send an update and report.

What they say is what agents say, at the same times; only that nothing is trained, and that an account of
their own may write for all of them.
"""

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from broker import topics as tree
from broker.events import Connected, Received, SessionEvent
from broker.messages import (
    AgentState,
    Announcement,
    Assignment,
    AssignmentPhase,
    BlobRef,
    Grant,
    Heartbeat,
    Inbox,
    Message,
    Offer,
    Presence,
    Receipt,
    Report,
)
from broker.session import Session
from broker.settings import BrokerSettings
from broker.signing import unseal
from broker.topics import Branch, Topics
from broker.update import encode_update
from broker.wire import decode, encode
from host.inbox import Inbox as Queue

BEAT_S = 5.0
TRAINING_S = (25.0, 45.0)
EVALUATING_S = (0.5, 2.0)
OFFERED_AGAIN_S = 15.0
LOOK_S = 0.05
RUNTIME = "softmax"
STATES = {
    AssignmentPhase.TRAINING: AgentState.TRAINING,
    AssignmentPhase.EVALUATING: AgentState.EVALUATING,
}


@dataclass
class Device:
    """One of them; times in seconds of a clock that only goes forward."""

    name: str
    connection: str
    beat_at: float
    state: AgentState = AgentState.IDLE
    began_at: float = 0.0
    ends_at: float = 0.0
    offer_at: float | None = None


def allow(acl: Path, topics: Topics, user: str) -> None:
    """Add to a broker's access list that a user speaks for all devices."""
    lines = [
        "",
        f"user {user}",
        f"topic readwrite {topics.root}/devices/#",
        f"topic read {topics.root}/round",
    ]
    acl.write_text("\n".join([acl.read_text().rstrip(), *lines]) + "\n")


class Crowd:
    """Plays all devices in a thread of its own until the `with` block ends."""

    def __init__(self, settings: BrokerSettings, count: int) -> None:
        self._topics = settings.topics
        self._random = random.Random(0)  # noqa: S311 - a benchmark's dice
        now = time.monotonic()
        self._devices = {
            name: Device(name, f"{number:016x}", now + self._random.uniform(0, BEAT_S))
            for number, name in enumerate(f"device-{number:04}" for number in range(count))
        }
        self._inbox: Queue[SessionEvent] = Queue(100_000)
        heard = [(self._topics.topic(tree.ROUND), 1), (self._topics.filter(tree.INBOX), 1)]
        self._session = Session(settings, "crowd", self._inbox.put, will=None, subscriptions=heard)
        self._asked: Assignment | None = None
        self._content = b""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def __enter__(self) -> Self:
        self._session.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._session.stop()

    def _play(self) -> None:
        while not self._over.is_set():
            event = self._inbox.get(LOOK_S)
            while event is not None:
                self._on(event)
                event = self._inbox.get(0.0)
            if self._session.connected:
                for device in self._devices.values():
                    self._live(device, time.monotonic())

    def _on(self, event: SessionEvent) -> None:
        if isinstance(event, Connected):
            for device in self._devices.values():
                self._be_born(device)
        elif isinstance(event, Received) and event.payload:
            address = self._topics.parse(event.topic)
            assert address is not None
            if address.branch is tree.ROUND:
                self._announced(unseal(event.topic, event.payload, None))
            else:
                self._told(self._devices[address.fields["device"]], event.payload)

    def _be_born(self, device: Device) -> None:
        birth = Presence(
            online=True,
            connection=device.connection,
            version="0.1.0",
            cores=4,
            memory_bytes=1 << 30,
            runtimes=(RUNTIME,),
            tags=("hall-b",),
            examples=480,
        )
        self._say(tree.PRESENCE, device, birth)

    def _announced(self, announcement: Announcement) -> None:
        asked, before = announcement.assignment, self._asked
        self._asked = asked
        if asked is None or (before is not None and _key(before) == _key(asked)):
            return
        if asked.phase is AssignmentPhase.TRAINING:
            delta = np.full(asked.theta.size // 4, 0.001, np.float32)
            self._content = b"".join(encode_update(asked.layout, {"delta": delta}))
        for device in self._of_cohort(asked):
            self._begin(device, STATES[asked.phase], time.monotonic())

    def _of_cohort(self, asked: Assignment) -> Iterator[Device]:
        for name, device in self._devices.items():
            if asked.cohort is None or name in asked.cohort:
                yield device

    def _told(self, device: Device, payload: bytes) -> None:
        message: Message = decode(Inbox, payload)  # type: ignore[arg-type]  # a union, which type[M] cannot say
        if isinstance(message, Grant):
            for index in message.indexes:
                ref = self._ref()
                chunk = self._content[index * ref.chunk_bytes : (index + 1) * ref.chunk_bytes]
                self._say(tree.UPDATE_CHUNK, device, chunk, transfer=ref.transfer, index=index)
        elif isinstance(message, Receipt) and device.state is AgentState.UPLOADING:
            self._begin(device, AgentState.IDLE, time.monotonic())

    def _begin(self, device: Device, state: AgentState, now: float) -> None:
        spans = {AgentState.TRAINING: TRAINING_S, AgentState.EVALUATING: EVALUATING_S}
        device.state, device.began_at, device.offer_at = state, now, None
        device.ends_at = now + self._random.uniform(*spans.get(state, (0.0, 0.0)))
        # At each change of state, as agents do.
        device.beat_at = now

    def _live(self, device: Device, now: float) -> None:
        if device.state is AgentState.TRAINING and now >= device.ends_at:
            self._begin(device, AgentState.UPLOADING, now)
            device.offer_at = now
        elif device.state is AgentState.EVALUATING and now >= device.ends_at:
            self._report(device)
            self._begin(device, AgentState.IDLE, now)
        if device.offer_at is not None and now >= device.offer_at:
            device.offer_at = now + OFFERED_AGAIN_S
            self._offer(device)
        if now >= device.beat_at:
            device.beat_at = now + BEAT_S
            self._beat(device, now)

    def _beat(self, device: Device, now: float) -> None:
        asked, trains = self._asked, device.state is AgentState.TRAINING
        took = max(device.ends_at - device.began_at, 1e-9)
        progress = min(1.0, max(0.0, (now - device.began_at) / took)) if trains else 0.0
        beat = Heartbeat(
            connection=device.connection,
            state=device.state,
            run=asked.run if asked else None,
            round=asked.round if asked else None,
            progress=progress,
            examples_per_s=self._random.uniform(10, 50) if trains else 0.0,
            memory_bytes=61_000_000 + self._random.randrange(1 << 20),
            temperature_c=round(self._random.uniform(45, 75), 1),
        )
        self._say(tree.HEARTBEAT, device, beat)

    def _offer(self, device: Device) -> None:
        if self._asked is None:
            return
        found = {"loss": (self._random.uniform(50, 500), 480.0), "accuracy": (400.0, 480.0)}
        offer = Offer(
            run=self._asked.run,
            round=self._asked.round,
            update=self._ref(),
            examples=480,
            metrics=found,
            validation=found,
            seconds=device.ends_at - device.began_at,
        )
        self._say(tree.OFFER, device, offer)

    def _report(self, device: Device) -> None:
        if self._asked is not None:
            metrics = {"accuracy": (self._random.uniform(300, 480), 480.0)}
            report = Report(run=self._asked.run, round=self._asked.round, metrics=metrics)
            self._say(tree.REPORT, device, report)

    def _ref(self) -> BlobRef:
        assert self._asked is not None
        return BlobRef(
            digest=hashlib.sha256(self._content).hexdigest(),
            size=len(self._content),
            chunk_bytes=self._asked.theta.chunk_bytes,
        )

    def _say(self, branch: Branch, device: Device, message: Message | bytes, **fields: str | int) -> None:
        payload = message if isinstance(message, bytes) else encode(message)
        topic = self._topics.topic(branch, device=device.name, **fields)
        while self._session.publish(topic, payload, qos=branch.qos, retain=branch.retained) is None:
            if self._over.is_set() or not self._session.connected:
                return
            time.sleep(LOOK_S)


def _key(asked: Assignment) -> tuple[str, int, AssignmentPhase]:
    return asked.run, asked.round, asked.phase
