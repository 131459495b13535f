"""What the ledger and the run's folder tell of the active run, or else of the newest."""

from collections.abc import Mapping
from pathlib import Path

from aggregator.ledger import Ledger
from aggregator.ledger_rows import RoundRow
from aggregator.watch.annals import RunFacts, Standing, Standings, durations_s, run_facts
from aggregator.watch.confusion import read_confusion
from aggregator.watch.runs import history
from broker.control import RunSummary
from broker.monitor import ConfusionDocument, HistoryDocument


class Past:
    """Read when the ledger has something new, so that looks cost no queries."""

    def __init__(self, ledger: Ledger, runs: Path) -> None:
        self.ledger = ledger
        self._runs = runs
        self.run: RunSummary | None = None
        self._forget()

    def _forget(self) -> None:
        self.facts = RunFacts()
        self.closed: list[RoundRow] = []
        """Oldest first."""
        self.opened: RoundRow | None = None
        self.durations_s: dict[str, float] = {}
        """Of the open round."""
        self.standings: Mapping[str, Standing] = {}
        self._standings: Standings | None = None
        self.history: HistoryDocument | None = None
        self.confusion: ConfusionDocument | None = None

    def read(self) -> list[RoundRow]:
        """Take over what is new: the rounds that closed since."""
        newest = next(iter(self.ledger.runs(1)), None)
        if newest is None:
            return []
        if self.run is None or self.run.run != newest.run:
            self._forget()
        self.run, self.facts = newest, run_facts(self.ledger, newest.run)
        rows = self.ledger.rounds(newest.run, after=self.closed[-1].round if self.closed else 0)
        closed = [row for row in rows if row.outcome is not None]
        self.opened = next((row for row in rows if row.outcome is None), None)
        if self.opened is not None:
            self.durations_s = durations_s(self.ledger, newest.run, self.opened.round)
        if closed:
            self._closed(newest.run, closed)
        return closed

    def _closed(self, run: str, rows: list[RoundRow]) -> None:
        self.closed += rows
        self._standings = self._standings or Standings(self.ledger, run)
        self.standings = self._standings.read(rows[-1].round)
        self.history = history(run, self.closed)
        evaluated = next((row for row in reversed(self.closed) if row.metrics is not None), None)
        if evaluated is not None and evaluated.round >= rows[0].round:
            self.confusion = read_confusion(self._runs, run, evaluated.round) or self.confusion
