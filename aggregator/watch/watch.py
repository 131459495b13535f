"""What people and tools see: the documents under `monitor/`, written when they change and renewed in time."""

import time
from collections.abc import Callable, Mapping

from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.fitness import judged, shortage
from aggregator.coordinator.phases import Phase
from aggregator.discretion import as_it_is, without_data
from aggregator.ledger import Ledger
from aggregator.watch.devices import device_document
from aggregator.watch.federation import federation, incidents
from aggregator.watch.rounds import closed_round, open_round
from aggregator.watch.runs import active_run, ended_run
from broker.happenings import EventDocument
from broker.messages import RunSummary
from broker.monitor import Document, RoundDocument
from broker.needs import Misfit
from broker.topics import (
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_INCIDENTS,
    MONITOR_ROUND,
    MONITOR_RUN,
    Topics,
)

RENEWED_EVERY_S = 30.0
KEPT_ROUNDS = 20
KEPT_RUNS = 5

Publish = Callable[[str, bytes], bool]
Observer = Callable[[str, Document | EventDocument], None]
Misfits = Mapping[str, Misfit | None]


class Watch:
    """Publishes what differs from what was published last, at most every `rate_s` seconds."""

    def __init__(
        self,
        core: Coordinator,
        ledger: Ledger,
        topics: Topics,
        publish: Publish,
        dropped: Callable[[], int],
        rate_s: float,
        *,
        discreet: bool = False,
    ) -> None:
        self._core = core
        self._ledger = ledger
        self._topics = topics
        self._publish = publish
        self._dropped = dropped
        self._rate_s = rate_s
        self._shown = without_data if discreet else as_it_is
        self.observers: list[Observer] = []
        """See every document and event once it was published, as it was, in the loop's thread."""
        self.waits = ""
        """Why the run waits, as of the last look; empty while it does not wait for devices."""
        self._published: dict[str, tuple[Document, float]] = {}
        self._newest: RunSummary | None = next(iter(ledger.runs(1)), None)
        self._incidents = incidents(ledger)
        self._closed: tuple[str, RoundDocument] | None = None
        self._due = 0.0

    def next_deadline(self) -> float:
        """When `look` is due."""
        return self._due

    def forget(self) -> None:
        """The broker may have lost what was published: say it again."""
        self._published.clear()
        self._due = 0.0

    def round_closed(self, run: str) -> None:
        """The ledger knows something new of a run: its last round's final document, and its own."""
        self._newest = next((summary for summary in self._ledger.runs(1) if summary.run == run), self._newest)
        closed = [row for row in self._ledger.rounds(run) if row.outcome is not None]
        if closed:
            last = closed[-1]
            document = closed_round(run, last, self._ledger.participants(run, last.round))
            if self._closed is not None:
                self._published.pop(self._closed[0], None)
            self._closed = self._topics.topic(MONITOR_ROUND, run=run, round=last.round), document
        for row in closed[-KEPT_ROUNDS - 1 : -KEPT_ROUNDS]:
            self._publish(self._topics.topic(MONITOR_ROUND, run=run, round=row.round), b"")
        self._due = 0.0

    def excluded(self, device: str) -> None:
        """A device is known no more: its document leaves the broker."""
        topic = self._topics.topic(MONITOR_DEVICE, device=device)
        self._published.pop(topic, None)
        self._publish(topic, b"")
        self._due = 0.0

    def mishap(self) -> None:
        """The ledger has a new incident."""
        self._incidents = incidents(self._ledger)
        self._due = 0.0

    def run_began(self) -> None:
        """One run more: the documents of the oldest leave the broker."""
        for summary in self._ledger.runs(KEPT_RUNS + 1)[KEPT_RUNS:]:
            self._publish(self._topics.topic(MONITOR_RUN, run=summary.run), b"")
            for row in self._ledger.rounds(summary.run)[-KEPT_ROUNDS:]:
                self._publish(self._topics.topic(MONITOR_ROUND, run=summary.run, round=row.round), b"")

    def look(self, now: float) -> None:
        """Publish every document that changed or is due for renewal."""
        self._due = now + self._rate_s
        self._show(self._topics.topic(MONITOR_FEDERATION), federation(self._core, self._dropped(), now), now)
        if self._incidents.incidents:
            self._show(self._topics.topic(MONITOR_INCIDENTS), self._incidents, now)
        misfits = self._misfits(now)
        self.waits = self._shortage(misfits)
        for name, device in self._core.fleet.devices.items():
            document = device_document(
                name, device, self._core.run, misfits.get(name), alive=self._core.fleet.alive(name, now)
            )
            due = self._core.due.get(name)
            timed = {
                "seconds_left": None if due is None else round(max(0.0, due - now), 1),
                "heard_at_unix_s": round(time.time() - now + device.heard_at, 1),
            }
            self._show(self._topics.topic(MONITOR_DEVICE, device=name), document, now, **timed)
        if self._closed is not None:
            self._show(*self._closed, now)
        run = self._core.run
        if run is not None and (self._newest is None or self._newest.run != run.run):
            self._newest = next(iter(self._ledger.runs(1)), None)
        if run is None and self._newest is not None:
            topic = self._topics.topic(MONITOR_RUN, run=self._newest.run)
            self._show(topic, ended_run(self._newest), now)
        elif run is not None:
            self._show(
                self._topics.topic(MONITOR_RUN, run=run.run), active_run(run, self._newest, self.waits), now
            )
            if run.round is not None:
                topic = self._topics.topic(MONITOR_ROUND, run=run.run, round=run.round.number)
                left = {"seconds_left": self._core.seconds_left}
                self._show(topic, open_round(run, run.round, self._core.fleet, now), now, **left)

    def _show(self, topic: str, document: Document, now: float, **timed: float | None) -> None:
        """Publish a document that is not what it was; `timed` are fields that time alone changes."""
        document = self._shown(document)
        before = self._published.get(topic)
        if before is not None and now - before[1] < RENEWED_EVERY_S and before[0] == document:
            return
        timed |= {"at_unix_s": time.time(), "renewed_every_s": RENEWED_EVERY_S}
        said = document.model_copy(update=timed)
        if self._publish(topic, said.payload()):
            self._published[topic] = (document, now)
            for observer in self.observers:
                observer(topic, said)

    def _misfits(self, now: float) -> Misfits:
        """Why devices are not selected; of nobody while there is no run that was prepared."""
        run = self._core.run
        return judged(self._core.fleet, run, now) if run is not None and run.model is not None else {}

    def _shortage(self, misfits: Misfits) -> str:
        run = self._core.run
        if run is None or run.paused is not None or run.phase is not Phase.WAITING:
            return ""
        return shortage(misfits.values(), run.settings)
