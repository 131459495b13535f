"""What views want to know of the ledger, asked of it in SQL."""

import json
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
    WHERE p.run = ? GROUP BY p.device"""
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


def standings(ledger: Ledger, run: str) -> dict[str, Standing]:
    """How each device that was ever asked did; a device's metrics are of its newest update."""
    rows = ledger.query(_STANDINGS, (run,))
    examples = sum(row["examples"] for row in rows)
    return {
        row["device"]: Standing(
            asked=row["asked"],
            accepted=row["accepted"],
            contribution=row["examples"] / examples if examples else None,
            training=_means(row["metrics"]),
            validation=_means(row["validation"]),
        )
        for row in rows
    }


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
