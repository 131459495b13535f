"""All documents that are to stand on the broker now, most urgent first."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from math import ceil
from typing import NamedTuple

from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.state import Round, Run
from aggregator.ledger_rows import RoundRow
from aggregator.watch.annals import durations_s
from aggregator.watch.devices import device_document
from aggregator.watch.federation import federation
from aggregator.watch.past import Past
from aggregator.watch.rounds import closed_round, eta_s, open_round
from aggregator.watch.runs import active_run, ended_run, seconds_left
from broker.happenings import RecentDocument
from broker.monitor import Document, IncidentsDocument, RoundDocument
from broker.needs import Misfit
from broker.topics import (
    MONITOR_CONFUSION,
    MONITOR_DEVICE,
    MONITOR_FEDERATION,
    MONITOR_HISTORY,
    MONITOR_INCIDENTS,
    MONITOR_RECENT,
    MONITOR_ROUND,
    MONITOR_RUN,
    Topics,
)

RENEWED_EVERY_S = 30.0
# So many devices a second have a turn, whatever else is said: a larger fleet's are renewed less often.
DEVICES_PER_S = 16
RECENT_EVERY_S = 5.0
# Rounds can close faster than they are shown.
FINAL_ROUNDS = 2


class Page(NamedTuple):
    """A document and its place; `timed` are the fields that time alone changes."""

    topic: str
    document: Document
    timed: Mapping[str, float | None] = {}
    renewed_every_s: float = RENEWED_EVERY_S
    pause_s: float = 0.0


class Pages:
    """Makes documents of what the coordinator has and of what the ledger had at the last `read`."""

    def __init__(self, core: Coordinator, past: Past, topics: Topics) -> None:
        self._core = core
        self._past = past
        self._topics = topics
        self._final: dict[str, RoundDocument] = {}
        self._before: dict[str, Page] = {}
        """Of the run before the newest: it may have ended a moment before that one began."""

    def read(self) -> list[str]:
        """Take over what the ledger has; topics whose documents are not said again from now on."""
        run, ended = self._past.run, {page.topic: page for page in self._of_run()}
        rows, newest = self._past.read(), self._past.run
        over: list[str] = []
        if run is not None and newest is not None and newest.run != run.run:
            over, self._before = list(self._before), ended
        for row in rows[-FINAL_ROUNDS:]:
            assert newest is not None
            self._close(newest.run, row)
        rounds = list(self._final)[:-FINAL_ROUNDS]
        for topic in rounds:
            del self._final[topic]
        return over + rounds

    def of_federation(self, dropped: int, now: float) -> Page:
        """The fleet in numbers."""
        document = federation(self._core, dropped, now)
        return Page(self._topics.topic(MONITOR_FEDERATION), document)

    def of_run(self, waits: str, unix_s: float) -> Page | None:
        """The active run; `waits` is why it waits."""
        run, past = self._core.run, self._past
        if run is None:
            return None
        topic = self._topics.topic(MONITOR_RUN, run=run.run)
        timed = {"seconds_left": seconds_left(run, past.closed, unix_s)}
        return Page(topic, active_run(run, past.run, waits), timed)

    def standing(self, now: float, unix_s: float, others: Iterable[Page]) -> dict[str, Callable[[], Page]]:
        """What can be large: made only when it can be said, since that may be rare."""
        made = [*self._of_past(), *others]
        pages: dict[str, Callable[[], Page]] = {page.topic: partial(_itself, page) for page in made}
        run = self._core.run
        if run is not None and run.round is not None:
            topic = self._topics.topic(MONITOR_ROUND, run=run.run, round=run.round.number)
            pages[topic] = partial(self._of_round, topic, run, run.round, now, unix_s)
        return pages

    def of_events(self, recent: RecentDocument) -> Page:
        """The newest events."""
        topic = self._topics.topic(MONITOR_RECENT)
        return Page(topic, recent, renewed_every_s=0.0, pause_s=RECENT_EVERY_S)

    def of_incidents(self, document: IncidentsDocument) -> Page:
        """The newest mishaps."""
        return Page(self._topics.topic(MONITOR_INCIDENTS), document)

    def _of_round(self, topic: str, run: Run, current: Round, now: float, unix_s: float) -> Page:
        opened = self._past.opened
        timed = {
            "opened_unix_s": opened.opened_unix_s if opened else None,
            "seconds": round(max(0.0, unix_s - opened.opened_unix_s), 1) if opened else 0.0,
            "seconds_left": self._core.seconds_left,
            "eta_s": eta_s(self._core, current, now),
        }
        return Page(topic, open_round(self._core, run, current, self._past.durations_s, now), timed)

    def _of_past(self) -> Iterator[Page]:
        """What is over: a run after its rounds."""
        for place, document in self._final.items():
            yield Page(place, document, renewed_every_s=0.0)
        yield from self._before.values()
        yield from self._of_run()

    def _of_run(self) -> Iterator[Page]:
        """What the ledger tells of the newest run; the run itself, once it has ended."""
        past, topic = self._past, self._topics.topic
        for branch, kept in ((MONITOR_HISTORY, past.history), (MONITOR_CONFUSION, past.confusion)):
            if kept is not None:
                yield Page(topic(branch, run=kept.run), kept, renewed_every_s=0.0)
        if past.run is not None and past.facts.ended_unix_s is not None:
            document = ended_run(past.run, past.facts)
            yield Page(topic(MONITOR_RUN, run=past.run.run), document, renewed_every_s=0.0)

    def of_device(self, name: str, misfit: Misfit | None, now: float, unix_s: float) -> Page:
        """A device of the fleet."""
        fleet, due = self._core.fleet, self._core.due.get(name)
        device, standing = fleet.devices[name], self._past.standings.get(name)
        alive = fleet.alive(name, now)
        document = device_document(name, device, self._core.run, misfit, standing, alive=alive)
        timed = {
            "seconds_left": None if due is None else round(max(0.0, due - now), 1),
            "heard_at_unix_s": round(unix_s - now + device.heard_at, 1),
        }
        # In whole steps: another device more must not change the documents of all.
        steps = ceil(len(fleet.devices) / (RENEWED_EVERY_S * DEVICES_PER_S))
        topic = self._topics.topic(MONITOR_DEVICE, device=name)
        return Page(topic, document, timed, steps * RENEWED_EVERY_S)

    def _close(self, run: str, row: RoundRow) -> None:
        ledger = self._past.ledger
        parts = ledger.participants(run, row.round)
        document = closed_round(run, row, parts, durations_s(ledger, run, row.round))
        topic = self._topics.topic(MONITOR_ROUND, run=run, round=row.round)
        self._final[topic] = document


def _itself(page: Page) -> Page:
    return page
