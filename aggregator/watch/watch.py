"""What people and tools see: the documents under `monitor/`, said when they change and renewed in time."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from aggregator import records
from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.fitness import judged, shortage
from aggregator.coordinator.phases import Phase
from aggregator.discretion import as_it_is, without_data, without_details
from aggregator.records import Record
from aggregator.watch.attendance import Attendance
from aggregator.watch.board import Board, Observer, Publish
from aggregator.watch.federation import incidents
from aggregator.watch.guard import Guard
from aggregator.watch.pages import Page, Pages
from aggregator.watch.past import Past
from aggregator.watch.remembered import remembered
from aggregator.watch.story import happening
from aggregator.watch.stream import Stream
from aggregator.watch.turns import Turns
from broker.happenings import Happening
from broker.needs import Misfit
from broker.topics import (
    MONITOR_CONFUSION,
    MONITOR_DEVICE,
    MONITOR_EVENTS,
    MONITOR_HISTORY,
    MONITOR_ROUND,
    MONITOR_RUN,
    Branch,
    Topics,
)

KEPT_ROUNDS = 20
KEPT_RUNS = 5
# A look has its limits, too; documents have their share of the messages also while much happens.
EVENTS_A_LOOK, DEVICES_A_LOOK = 10, 500

# What changes the past of a run.
_NEWS = (
    records.RunStarted,
    records.RunPrepared,
    records.RunEnded,
    records.RoundOpened,
    records.RoundClosed,
    records.Transition,
)
Misfits = Mapping[str, Misfit | None]


class Watch:
    """Looks every `rate_s` seconds and says what changed, most urgent first, as far as `Board` has room.

    `session` is the aggregator's number. The ledger is to tell `note` of what it holds from now on.
    """

    def __init__(
        self,
        core: Coordinator,
        past: Past,
        topics: Topics,
        publish: Publish,
        *,
        session: int,
        dropped: Callable[[], int],
        rate_s: float,
        discreet: bool = False,
    ) -> None:
        self._core = core
        self._ledger = past.ledger
        self._topics = topics
        self._dropped = dropped
        self._rate_s = rate_s
        self._shown = without_data if discreet else as_it_is
        self._told = without_details if discreet else as_it_is
        self.waits = ""
        """Why the run waits, as of the last look; empty while it does not wait for devices."""
        self._guard = Guard()
        self._board = Board(publish, rate_s)
        self._stream = Stream(session, self._remembered())
        self._attendance = Attendance(core.fleet)
        self._turns = Turns()
        self._waiting: list[str] = []
        self._pages = Pages(core, past, topics)
        self._incidents = incidents(past.ledger)
        self._news = True
        self._due = 0.0

    def _remembered(self) -> list[Happening]:
        """What happened before; none where the ledger cannot be read."""
        found: list[Happening] = []
        self._guard.run("remembering events", lambda: found.extend(map(self._told, remembered(self._ledger))))
        return found

    @property
    def observers(self) -> list[Observer]:
        """See every document and event once it was published, as it was, in the loop's thread."""
        return self._board.observers

    def next_deadline(self) -> float:
        """When `look` is due."""
        return self._due

    def forget(self) -> None:
        """The broker may have lost what was published: say it again."""
        self._board.forget()
        self._guard.run("clearing what is over", self._clear_what_is_over)
        self._due = 0.0

    # -- what happened ---------------------------------------------------------------------------

    def note(self, noted: Sequence[Record]) -> None:
        """These records stand in the ledger, or tell of what did not change it."""
        for record in noted:
            self._guard.run("telling of a record", partial(self._tell_of, record))
            self._guard.run("taking note of a record", partial(self._note, record))

    def was_there(self, device: str, *, online: bool) -> None:
        """The broker had kept this presence from earlier: it is no news."""
        self._attendance.was_there(device, online=online)

    def _tell_of(self, record: Record) -> None:
        event = happening(record, time.time())
        if event is not None:
            self._stream.add(self._told(event))

    def _note(self, record: Record) -> None:
        if isinstance(record, _NEWS):
            self._news, self._due = True, 0.0
        if isinstance(record, records.RunStarted):
            self._clear_oldest_run()
        elif isinstance(record, records.RunEnded):
            # The next one can begin before the next look.
            self._read()
        elif isinstance(record, records.RoundClosed) and record.round > KEPT_ROUNDS:
            self._clear(MONITOR_ROUND, run=record.run, round=record.round - KEPT_ROUNDS)
        elif isinstance(record, records.DeviceExcluded):
            self._clear(MONITOR_DEVICE, device=record.device)
        elif isinstance(record, records.Incident):
            self._incidents = incidents(self._ledger)

    def _clear_what_is_over(self) -> None:
        """An earlier process may have had no time for it, and a broker that was killed brings it back."""
        for device in self._ledger.excluded():
            self._clear(MONITOR_DEVICE, device=device)
        self._clear_oldest_run()
        for newest in self._ledger.runs(1):
            last = max((row.round for row in self._ledger.rounds(newest.run)), default=0) - KEPT_ROUNDS
            for number in range(max(1, last - KEPT_ROUNDS), last + 1):
                self._clear(MONITOR_ROUND, run=newest.run, round=number)

    def _clear_oldest_run(self) -> None:
        """Beyond those whose documents stay."""
        for summary in self._ledger.runs(KEPT_RUNS + 1)[KEPT_RUNS:]:
            for branch in (MONITOR_RUN, MONITOR_HISTORY, MONITOR_CONFUSION):
                self._clear(branch, run=summary.run)
            for row in self._ledger.rounds(summary.run)[-KEPT_ROUNDS:]:
                self._clear(MONITOR_ROUND, run=summary.run, round=row.round)

    def _clear(self, branch: Branch, **fields: str | int) -> None:
        self._board.clear(self._topics.topic(branch, **fields))

    # -- what is said ------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Say what there is room for; what fails is told in the log."""
        self._due = now + self._rate_s
        self._guard.run("the watch", partial(self._look, now))

    def _look(self, now: float) -> None:
        unix_s = time.time()
        self._board.refill(now)
        self._guard.run("reading the ledger", self._read)
        self._tell(now, unix_s)
        misfits = self._misfits(now)
        self.waits = self._shortage(misfits)
        if self._say_federation(now, unix_s):
            self._say_standing(now, unix_s)
            self._board.sweep()
            fleet, of_device = self._core.fleet.devices, self._pages.of_device
            self._turns.take(
                fleet,
                lambda name: self._show(of_device(name, misfits.get(name), now, unix_s), now),
                DEVICES_A_LOOK,
            )

    def _read(self) -> None:
        if self._news:
            self._news = False
            for topic in self._pages.read():
                self._board.release(topic)

    def _tell(self, now: float, unix_s: float) -> None:
        """Events, oldest first."""
        self._stream.refill(now, unix_s)
        for event in self._attendance.look(now, unix_s):
            self._stream.add(event)
        topic = self._topics.topic(MONITOR_EVENTS)
        self._stream.pour(lambda event: self._board.tell(topic, event), EVENTS_A_LOOK)

    def _say_federation(self, now: float, unix_s: float) -> bool:
        """What everybody looks at first; whether there is room for more."""
        pages = (self._pages.of_federation(self._dropped(), now), self._pages.of_run(self.waits, unix_s))
        return all(self._show(page, now) for page in pages if page is not None)

    def _say_standing(self, now: float, unix_s: float) -> None:
        """Rounds, and what else can be large: who had to wait comes first."""
        others = []
        if self._incidents.incidents:
            others.append(self._pages.of_incidents(self._incidents))
        if self._stream.begun:
            others.append(self._pages.of_events(self._stream.recent))
        pages = self._pages.standing(now, unix_s, others)
        first = [topic for topic in self._waiting if topic in pages]
        ready = [topic for topic in dict.fromkeys((*first, *pages)) if self._board.ready(topic, now)]
        self._waiting = [topic for topic in ready if not self._show(pages[topic](), now)]

    def _show(self, page: Page, now: float) -> bool:
        document = self._shown(page.document).model_copy(update={"renewed_every_s": page.renewed_every_s})
        timed = {**page.timed, "at_unix_s": time.time()}
        return self._board.show(page.topic, document, now, pause_s=page.pause_s, **timed)

    def _misfits(self, now: float) -> Misfits:
        """Why devices are not selected; of nobody while there is no run that was prepared."""
        run = self._core.run
        return judged(self._core.fleet, run, now) if run is not None and run.model is not None else {}

    def _shortage(self, misfits: Misfits) -> str:
        run = self._core.run
        if run is None or run.paused is not None or run.phase is not Phase.WAITING:
            return ""
        return shortage(misfits.values(), run.settings)
