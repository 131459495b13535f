"""When somebody is to be called: a run that ends or stands still, a device or a disk that needs care.

Pure: documents, records and the time in, notices out. What goes on is told once, until it is over.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from aggregator import records
from aggregator.coordinator.operating import BY_OPERATOR
from aggregator.narrate import narrate
from aggregator.outlets.notice import MAX_NAMED, Notice, NoticeKind
from aggregator.records import Record
from aggregator.watch.federation import PAUSED
from broker.happenings import EventDocument, Severity
from broker.messages import ReceiptOutcome
from broker.monitor import DeviceDocument, Document, HistoryDocument, RunDocument

# No round closed for so long as so many of the last rounds took: the run stands still.
STALLED_ROUNDS, OF_THE_LAST = 5.0, 20
LEAST_STALL_S = 60.0
# As long as nothing is known of how long a round takes.
FIRST_ROUND_S = 3600.0
# Updates of a device in one run that were not taken.
REJECTED_OFTEN = 3
# So long a run's last document may take.
SUMMARY_S = 5.0
# While the broker is away, nobody asks for what waits.
MAX_WAITING = 100


@dataclass(slots=True)
class _Pace:
    """How a run comes along; times in seconds of the clock."""

    run: str
    since: float
    rounds: int = 0
    typical_s: float | None = None
    told: bool = False

    @property
    def patience_s(self) -> float:
        return (
            FIRST_ROUND_S if self.typical_s is None else max(LEAST_STALL_S, STALLED_ROUNDS * self.typical_s)
        )


class Care:
    """`name` gives each notice its id; devices that are silent for `lost_s` are told."""

    def __init__(self, federation: str, lost_s: float, name: Callable[[], str]) -> None:
        self._federation = federation
        self._lost_s = lost_s
        self._name = name
        self._waiting: list[Notice] = []
        self._summary: RunDocument | None = None
        self._pace: _Pace | None = None
        self._lost_since: dict[str, float] = {}
        self._lost_told: set[str] = set()
        self._conflicts: set[str] = set()
        self._conflicts_told: set[str] = set()
        self._rejected: Counter[str] = Counter()

    # -- what is known -------------------------------------------------------------------------------

    def see(self, document: Document | EventDocument, now: float) -> None:
        """A document was published."""
        if isinstance(document, RunDocument):
            self._see_run(document, now)
        elif isinstance(document, HistoryDocument):
            self._see_history(document, now)
        elif isinstance(document, DeviceDocument):
            self._see_device(document, now)

    def note(self, record: Record, unix_s: float) -> None:
        """A record stands in the ledger."""
        match record:
            case records.RunStarted():
                self._rejected.clear()
            case records.RunEnded(outcome=outcome):
                severity = Severity.ERROR if outcome == "failed" else Severity.INFO
                self._call(NoticeKind.RUN_ENDED, severity, record, unix_s)
            case records.Transition(target="paused", reason=reason) if reason != BY_OPERATOR:
                self._call(NoticeKind.RUN_PAUSED, Severity.ERROR, record, unix_s)
            case records.Incident():
                self._call(NoticeKind.INCIDENT, Severity.ERROR, record, unix_s)
            case records.UpdateRefused(device=device, outcome=ReceiptOutcome.REJECTED):
                self._rejected[device] += 1
                if self._rejected[device] == REJECTED_OFTEN:
                    self._call(NoticeKind.REJECTED, Severity.WARNING, record, unix_s, (device,))
            case records.DeviceExcluded(device=device):
                self._forget(device)
            case _:
                pass

    def look(self, now: float, unix_s: float, *, last: bool = False) -> list[Notice]:
        """What is to be told now; the `last` time, all of it."""
        for notice in (*self._stalled(now, unix_s), *self._lost(now, unix_s), *self._in_conflict(unix_s)):
            self._add(notice)
        early = [] if last else [notice for notice in self._waiting if self._is_early(notice, unix_s)]
        due = [notice for notice in self._waiting if notice not in early]
        self._waiting = early
        return [notice.model_copy(update={"summary": self._summary_of(notice.run)}) for notice in due]

    # -- runs ----------------------------------------------------------------------------------------

    def _see_run(self, document: RunDocument, now: float) -> None:
        self._summary = document
        if document.ended_unix_s is not None:
            self._pace = None
        elif self._pace is None or self._pace.run != document.run:
            self._pace = _Pace(document.run, now)
        elif document.state == PAUSED:
            # The clock stands; it begins anew when the run goes on.
            self._pace.since, self._pace.told = now, False

    def _see_history(self, document: HistoryDocument, now: float) -> None:
        pace = self._pace
        if pace is None or pace.run != document.run or not document.rounds:
            return
        newest = document.rounds[-1].round
        pace.typical_s = median(one.seconds for one in document.rounds[-OF_THE_LAST:])
        if newest != pace.rounds:
            pace.rounds, pace.since, pace.told = newest, now, False

    def _stalled(self, now: float, unix_s: float) -> Iterator[Notice]:
        pace, summary = self._pace, self._summary
        if pace is None or summary is None or summary.state == PAUSED:
            return
        if not pace.told and now - pace.since > pace.patience_s:
            pace.told = True
            text = f"run {pace.run} stands still: no round closed for {now - pace.since:.0f} s"
            yield self._notice(
                NoticeKind.RUN_STALLED, Severity.WARNING, text, unix_s, run=pace.run, reason=summary.reason
            )

    def _is_early(self, notice: Notice, unix_s: float) -> bool:
        """Whether a run's end waits for the document that has its outcome, which comes a moment later."""
        summary = self._summary_of(notice.run)
        awaited = notice.kind is NoticeKind.RUN_ENDED and summary is not None and summary.ended_unix_s is None
        return awaited and unix_s - notice.at_unix_s < SUMMARY_S

    def _summary_of(self, run: str | None) -> RunDocument | None:
        return self._summary if self._summary is not None and run in {None, self._summary.run} else None

    # -- devices -------------------------------------------------------------------------------------

    def _see_device(self, document: DeviceDocument, now: float) -> None:
        device = document.device
        if document.live:
            self._lost_since.pop(device, None)
            self._lost_told.discard(device)
        else:
            self._lost_since.setdefault(device, now)
        if document.conflict:
            self._conflicts.add(device)
        else:
            self._conflicts.discard(device)
            self._conflicts_told.discard(device)

    def _forget(self, device: str) -> None:
        self._lost_since.pop(device, None)
        self._rejected.pop(device, None)
        for devices in (self._lost_told, self._conflicts, self._conflicts_told):
            devices.discard(device)

    def _lost(self, now: float, unix_s: float) -> Iterator[Notice]:
        """Many are lost at once where a network fails: that is one notice."""
        found = {
            name
            for name, since in self._lost_since.items()
            if name not in self._lost_told and now - since > self._lost_s
        }
        if found:
            self._lost_told |= found
            text = f"lost for more than {self._lost_s:.0f} s: {_names(found)}"
            yield self._notice(NoticeKind.LOST, Severity.WARNING, text, unix_s, devices=_first(found))

    def _in_conflict(self, unix_s: float) -> Iterator[Notice]:
        found = self._conflicts - self._conflicts_told
        if found:
            self._conflicts_told |= found
            text = f"two machines use one id: {_names(found)}; set one of them up under another"
            yield self._notice(NoticeKind.CONFLICT, Severity.ERROR, text, unix_s, devices=_first(found))

    # -- notices -------------------------------------------------------------------------------------

    def _call(
        self,
        kind: NoticeKind,
        severity: Severity,
        record: Record,
        unix_s: float,
        devices: tuple[str, ...] = (),
    ) -> None:
        _, text = narrate(record)
        self._add(
            self._notice(
                kind,
                severity,
                text,
                unix_s,
                reason=str(getattr(record, "reason", None) or getattr(record, "detail", None) or ""),
                run=getattr(record, "run", None),
                round=getattr(record, "round", None),
                devices=devices,
            )
        )

    def _add(self, notice: Notice) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(notice)

    def _notice(
        self, kind: NoticeKind, severity: Severity, text: str, unix_s: float, **more: object
    ) -> Notice:
        given = {"id": self._name(), "federation": self._federation, "kind": kind, "severity": severity}
        return Notice.model_validate({**given, "text": text, "at_unix_s": unix_s, **more})


def _first(devices: set[str]) -> tuple[str, ...]:
    return tuple(sorted(devices)[:MAX_NAMED])


def _names(devices: set[str]) -> str:
    more = len(devices) - 10
    shown = ", ".join(sorted(devices)[:10])
    return f"{shown} and {more} more" if more > 0 else shown
