"""The picture that the monitor topics make: pure, messages and the time in, documents out."""

from collections import deque
from dataclasses import dataclass, replace
from typing import TypeVar

from broker.happenings import EventDocument, RecentDocument
from broker.monitor import (
    SCHEMA_VERSION,
    AggregatorDocument,
    ConfusionDocument,
    DeviceDocument,
    Document,
    FederationDocument,
    HistoryDocument,
    IncidentsDocument,
    RoundDocument,
    RunDocument,
)
from broker.topics import (
    MONITOR_AGGREGATOR,
    MONITOR_CONFUSION,
    MONITOR_DEVICE,
    MONITOR_EVENTS,
    MONITOR_FEDERATION,
    MONITOR_HISTORY,
    MONITOR_INCIDENTS,
    MONITOR_RECENT,
    MONITOR_ROUND,
    MONITOR_RUN,
    Address,
    Branch,
    Topics,
)
from deploy.viewing.agreement import agreed
from deploy.viewing.reading import read

KEPT_EVENTS = 1000
# A document is stale after so many of its own intervals.
STALE_AFTER = 2.0

DOCUMENTS: dict[Branch, type[Document]] = {
    MONITOR_AGGREGATOR: AggregatorDocument,
    MONITOR_FEDERATION: FederationDocument,
    MONITOR_INCIDENTS: IncidentsDocument,
    MONITOR_RECENT: RecentDocument,
    MONITOR_RUN: RunDocument,
    MONITOR_ROUND: RoundDocument,
    MONITOR_HISTORY: HistoryDocument,
    MONITOR_CONFUSION: ConfusionDocument,
    MONITOR_DEVICE: DeviceDocument,
}
WATCHED = (*DOCUMENTS, MONITOR_EVENTS)

Kind = TypeVar("Kind", bound=Document)


@dataclass(frozen=True, slots=True)
class _Held:
    document: Document
    said_at: float


class View:
    """The newest document of each topic, and the events since; `now` is a clock that only goes forward."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._held: dict[Branch, dict[str, _Held]] = {branch: {} for branch in DOCUMENTS}
        self._events: deque[EventDocument] = deque(maxlen=KEPT_EVENTS)
        self.heard = 0
        """Events so far, those that are forgotten included."""
        self._unreadable: set[str] = set()

    def take(self, topic: str, payload: bytes, now: float, kept_unix_s: float | None = None) -> bool:
        """Take a message over; whether it changed anything.

        `kept_unix_s` is the time of day, given for what the broker had kept: so old it is.
        """
        address = self._topics.parse(topic)
        if address is None or address.branch not in WATCHED:
            return False
        self._unreadable.discard(topic)
        if not payload:
            return self._held[address.branch].pop(topic, None) is not None
        try:
            document = DOCUMENTS.get(address.branch, EventDocument).model_validate(read(payload))
        except ValueError:
            self._unreadable.add(topic)
            return False
        if document.schema_version != SCHEMA_VERSION:
            self._unreadable.add(topic)
            return False
        if isinstance(document, EventDocument):
            return self._take_event(document)
        age_s = 0.0 if kept_unix_s is None else max(0.0, kept_unix_s - document.at_unix_s)
        self._keep(address, topic, _Held(document, now - age_s))
        return True

    def forget_documents(self) -> None:
        """Begin anew, as at every connect: what the broker still has, it sends again."""
        for documents in self._held.values():
            documents.clear()
        self._unreadable.clear()

    # -- what is shown ---------------------------------------------------------------------------

    @property
    def unreadable(self) -> int:
        """Topics whose newest message was no document, or one of a schema that is not ours."""
        return len(self._unreadable)

    @property
    def is_foreign(self) -> bool:
        """Whether the aggregator itself says what we cannot read."""
        return self._topics.topic(MONITOR_AGGREGATOR) in self._unreadable

    @property
    def aggregator(self) -> AggregatorDocument | None:
        """Whether it lives, by its own word or its will."""
        return self._only(MONITOR_AGGREGATOR, AggregatorDocument)

    @property
    def federation(self) -> FederationDocument | None:
        """The fleet in numbers."""
        return self._only(MONITOR_FEDERATION, FederationDocument)

    @property
    def incidents(self) -> IncidentsDocument | None:
        """The aggregator's mishaps."""
        return self._only(MONITOR_INCIDENTS, IncidentsDocument)

    @property
    def devices(self) -> dict[str, DeviceDocument]:
        """Devices by id, sorted."""
        found = self._all(MONITOR_DEVICE, DeviceDocument)
        return {document.device: document for document in sorted(found, key=lambda one: one.device)}

    @property
    def live(self) -> int:
        """How many devices are there."""
        return sum(device.live for device in self.devices.values())

    @property
    def runs(self) -> list[RunDocument]:
        """Runs, newest first."""
        return sorted(self._all(MONITOR_RUN, RunDocument), key=lambda one: -one.started_unix_s)

    @property
    def run(self) -> RunDocument | None:
        """The active run, or the newest."""
        active = self.federation.run if self.federation is not None else None
        runs = self.runs
        return next((run for run in runs if run.run == active), next(iter(runs), None))

    def rounds(self, run: str) -> list[RoundDocument]:
        """The rounds of a run that the broker still has, oldest first."""
        found = (one for one in self._all(MONITOR_ROUND, RoundDocument) if one.run == run)
        return sorted(found, key=lambda one: one.round)

    def closed(self, run: str) -> list[RoundDocument]:
        """Those of them that are over."""
        return [document for document in self.rounds(run) if document.outcome is not None]

    def history(self, run: str) -> HistoryDocument | None:
        """All closed rounds of a run, a line each."""
        return next((one for one in self._all(MONITOR_HISTORY, HistoryDocument) if one.run == run), None)

    def confusion(self, run: str) -> ConfusionDocument | None:
        """What the run's newest model took for what."""
        return next((one for one in self._all(MONITOR_CONFUSION, ConfusionDocument) if one.run == run), None)

    @property
    def events(self) -> list[EventDocument]:
        """The newest events, oldest first."""
        return list(self._events)

    def since(self, heard: int) -> list[EventDocument]:
        """What came after the first `heard` events, oldest first; only the newest of many."""
        count = min(self.heard - heard, len(self._events))
        return list(self._events)[-count:] if count > 0 else []

    def age_s(self, branch: Branch, now: float, **fields: str | int) -> float:
        """For how many seconds a document stands as it is; 0 where there is none."""
        held = self._held[branch].get(self._topics.topic(branch, **fields))
        return max(0.0, now - held.said_at) if held is not None else 0.0

    def silent_s(self, branch: Branch, now: float) -> float | None:
        """For how many seconds the oldest stale document of a branch was silent; None: none is stale."""
        silences = (now - held.said_at for held in self._held[branch].values() if _is_stale(held, now))
        return max(silences, default=None)

    def is_stale(self, topic: str, now: float) -> bool:
        """Whether the document of a topic should have been renewed long ago."""
        address = self._topics.parse(topic)
        held = self._held[address.branch].get(topic) if address is not None else None
        return held is not None and _is_stale(held, now)

    # -- taking over -----------------------------------------------------------------------------

    def _keep(self, address: Address, topic: str, held: _Held) -> None:
        self._held[address.branch][topic] = held
        if isinstance(held.document, RunDocument | RoundDocument):
            self._agree(held.document.run)
        if isinstance(held.document, RecentDocument):
            newest = self._events[-1].at_unix_s if self._events else float("-inf")
            known = {(event.session, event.number) for event in self._events}
            for event in held.document.events:
                if (held.document.session, event.number) not in known and event.at_unix_s >= newest:
                    self._add(EventDocument(session=held.document.session, **event.model_dump()))

    def _agree(self, name: str) -> None:
        """Have a run and its newest round say the same."""
        at = self._topics.topic(MONITOR_RUN, run=name)
        run, rounds = self._held[MONITOR_RUN].get(at), self.rounds(name)
        if run is None or not rounds:
            return
        where = self._topics.topic(MONITOR_ROUND, run=name, round=rounds[-1].round)
        current = self._held[MONITOR_ROUND][where]
        assert isinstance(run.document, RunDocument)
        both = agreed(run.document, rounds[-1])
        self._held[MONITOR_RUN][at] = replace(run, document=both[0])
        self._held[MONITOR_ROUND][where] = replace(current, document=both[1])

    def _take_event(self, event: EventDocument) -> bool:
        key = event.session, event.number
        known = any(key == (one.session, one.number) for one in self._events)
        if known:
            return False
        self._add(event)
        return True

    def _add(self, event: EventDocument) -> None:
        self._events.append(event)
        self.heard += 1

    def _only(self, branch: Branch, kind: type[Kind]) -> Kind | None:
        return next(iter(self._all(branch, kind)), None)

    def _all(self, branch: Branch, kind: type[Kind]) -> list[Kind]:
        return [held.document for held in self._held[branch].values() if isinstance(held.document, kind)]


def _is_stale(held: _Held, now: float) -> bool:
    every_s = held.document.renewed_every_s
    return every_s > 0 and now - held.said_at > STALE_AFTER * every_s
