"""What views want to know of the ledger, asked of it in SQL."""

import json
import sqlite3
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from aggregator.coordinator.phases import Phase
from aggregator.ledger import Ledger
from broker.monitor import Means, means

# SQLite takes bare columns from the row of the one max(): https://www.sqlite.org/lang_select.html#bareagg
_STANDINGS = """
    SELECT p.device, count(*) AS asked, count(u.device) AS accepted, coalesce(sum(u.examples), 0) AS examples,
        max(u.round) AS newest, u.metrics, u.validation
    FROM participants p
    JOIN rounds r ON (r.run, r.round) = (p.run, p.round) AND r.outcome IS NOT NULL
    LEFT JOIN updates u ON (u.run, u.round, u.device) = (p.run, p.round, p.device)
    WHERE p.run = ? AND p.round > ? AND p.round <= ? GROUP BY p.device"""
_STEPS = "SELECT target, unix_s FROM transitions WHERE run = ? AND round = ? ORDER BY id"
_BETWEEN: tuple[str, ...] = (Phase.WAITING, Phase.IDLE)
_FACTS = "SELECT parameters, ended_unix_s FROM runs WHERE run = ?"


class RunFacts(NamedTuple):
    """What a run's summary leaves out."""

    parameters: int | None = None
    ended_unix_s: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A device's part in the closed rounds of a run; `contribution` and `reliability` are 0 to 1."""

    asked: int
    accepted: int
    contribution: float | None
    training: Means
    validation: Means

    @property
    def reliability(self) -> float | None:
        """Which part of the updates that were asked for came."""
        return round(self.accepted / self.asked, 4) if self.asked else None


def run_facts(ledger: Ledger, run: str) -> RunFacts:
    """Of a run that the ledger has."""
    ((parameters, ended_unix_s),) = ledger.query(_FACTS, (run,))
    return RunFacts(parameters, ended_unix_s)


class Standings:
    """How each device did that a run ever asked; what does not change any more is read once."""

    def __init__(self, ledger: Ledger, run: str) -> None:
        self._ledger = ledger
        self._run = run
        self._settled: dict[str, _Tally] = {}
        self._settled_to = 0

    def read(self, newest: int) -> dict[str, Standing]:
        """Up to the round that closed last, `newest`; only this one still takes updates that come late."""
        self._settled = self._with(self._settled, self._settled_to, newest - 1)
        self._settled_to = newest - 1
        tallies = self._with(self._settled, newest - 1, newest)
        examples = sum(tally.examples for tally in tallies.values())
        return {device: _standing(tally, examples) for device, tally in tallies.items()}

    def _with(self, tallies: dict[str, "_Tally"], after: int, to: int) -> dict[str, "_Tally"]:
        rows = self._ledger.query(_STANDINGS, (self._run, after, to)) if after < to else []
        return tallies | {row["device"]: _added(tallies.get(row["device"], _Tally()), row) for row in rows}


class _Tally(NamedTuple):
    asked: int = 0
    accepted: int = 0
    examples: int = 0
    training: Means = {}  # noqa: RUF012 - never changed
    validation: Means = {}  # noqa: RUF012


def _added(tally: _Tally, row: sqlite3.Row) -> _Tally:
    """With the rounds of a row; a device's metrics are of its newest update."""
    came = row["accepted"] > 0
    return _Tally(
        asked=tally.asked + row["asked"],
        accepted=tally.accepted + row["accepted"],
        examples=tally.examples + row["examples"],
        training=_means(row["metrics"]) if came else tally.training,
        validation=_means(row["validation"]) if came else tally.validation,
    )


def _standing(tally: _Tally, examples: int) -> Standing:
    contribution = tally.examples / examples if examples else None
    return Standing(tally.asked, tally.accepted, contribution, tally.training, tally.validation)


def durations_s(ledger: Ledger, run: str, round_: int) -> dict[str, float]:
    """How long each phase of a round took that is over, and its pauses."""
    steps: list[tuple[str, float]] = [tuple(row) for row in ledger.query(_STEPS, (run, round_))]
    spent: dict[str, float] = {}
    for (phase, began), (_, ended) in pairwise(steps):
        # What follows is noted under this round's number until the next one opens.
        if phase in _BETWEEN:
            break
        spent[phase] = round(spent.get(phase, 0.0) + max(0.0, ended - began), 3)
    return spent


def _means(column: str | None) -> Means:
    return means(json.loads(column)) if column else {}
