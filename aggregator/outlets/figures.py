"""What Prometheus is told: the newest documents, and what was counted since this process began."""

import threading
from collections import Counter
from dataclasses import dataclass, field, replace

from aggregator import records
from aggregator.coordinator.phases import RoundOutcome
from aggregator.records import Record
from broker.happenings import EventDocument, EventKind
from broker.messages import ReceiptOutcome, RejectReason
from broker.monitor import (
    DeviceDocument,
    Document,
    FederationDocument,
    HistoryDocument,
    RoundDocument,
    RunDocument,
)


@dataclass(frozen=True)
class Newest:
    """All of it at one moment; counters have all their labels from the beginning: none appears late."""

    federation: FederationDocument | None = None
    run: RunDocument | None = None
    round: RoundDocument | None = None
    devices: dict[str, DeviceDocument] = field(default_factory=dict)
    closed_unix_s: float | None = None
    last_round_s: float | None = None
    rounds: Counter[str] = field(default_factory=lambda: _zeros(RoundOutcome))
    updates: Counter[str] = field(default_factory=lambda: _zeros(ReceiptOutcome))
    rejected: Counter[str] = field(default_factory=lambda: _zeros(RejectReason))
    events: Counter[str] = field(default_factory=lambda: _zeros(EventKind))
    bytes_up: int = 0
    bytes_down: int = 0


class Figures:
    """Told in the loop's thread, read in others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._newest = Newest()

    def see(self, document: Document | EventDocument) -> None:
        """A document or an event was published."""
        with self._lock:
            match document:
                case EventDocument():
                    self._newest.events[document.kind] += 1
                case DeviceDocument():
                    self._newest.devices[document.device] = document
                case FederationDocument():
                    self._newest = replace(self._newest, federation=document)
                case RunDocument():
                    self._newest = replace(self._newest, run=document)
                case RoundDocument():
                    self._see_round(document)
                case HistoryDocument() if document.rounds:
                    self._newest = replace(self._newest, last_round_s=document.rounds[-1].seconds)
                case _:
                    pass

    def note(self, record: Record) -> None:
        """A record stands in the ledger, or tells of what did not change it."""
        with self._lock:
            newest = self._newest
            match record:
                case records.UpdateAccepted(size=size):
                    newest.updates[ReceiptOutcome.ACCEPTED] += 1
                    self._newest = replace(newest, bytes_up=newest.bytes_up + size)
                case records.UpdateRefused(outcome=outcome, reason=reason):
                    newest.updates[outcome] += 1
                    if reason is not None:
                        newest.rejected[reason] += 1
                case records.Course(bytes_down=size):
                    self._newest = replace(newest, bytes_down=newest.bytes_down + size)
                case records.RoundClosed(outcome=outcome):
                    newest.rounds[outcome] += 1
                case records.DeviceExcluded(device=device):
                    newest.devices.pop(device, None)
                case _:
                    pass

    def _see_round(self, document: RoundDocument) -> None:
        """The last closed rounds are shown beside the open one, and those of an earlier run beside both."""
        newest = self._newest
        if document.outcome is not None and document.opened_unix_s is not None:
            closed_unix_s = max(newest.closed_unix_s or 0.0, document.opened_unix_s + document.seconds)
            newest = replace(newest, closed_unix_s=closed_unix_s)
        shown, run = newest.round, document.run if newest.run is None else newest.run.run
        if shown is None or (document.run == run and (shown.run != run or document.round >= shown.round)):
            newest = replace(newest, round=document)
        self._newest = newest

    def read(self) -> Newest:
        """As it is now; it does not change any more."""
        with self._lock:
            newest = self._newest
            copies = {
                name: getattr(newest, name).copy()
                for name in ("devices", "rounds", "updates", "rejected", "events")
            }
            return replace(newest, **copies)


def _zeros(words: type[RoundOutcome | ReceiptOutcome | RejectReason | EventKind]) -> Counter[str]:
    return Counter(dict.fromkeys(map(str, words), 0))
