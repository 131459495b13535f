"""The documents about a run."""

from collections.abc import Sequence

from aggregator.coordinator.phases import RoundOutcome
from aggregator.coordinator.state import Run
from aggregator.ledger_rows import RoundRow
from aggregator.watch.annals import RunFacts
from aggregator.watch.federation import phase_of
from broker.control import RunSummary
from broker.monitor import (
    MAX_HISTORY_BYTES,
    MAX_HISTORY_ROUNDS,
    HistoryDocument,
    RoundSummary,
    RunDocument,
    means,
)

# Recent enough to tell the pace of the next ones, and enough of them.
PACE_ROUNDS = 10


def active_run(run: Run, newest: RunSummary | None, waits: str) -> RunDocument:
    """The run as the coordinator has it, with the ledger's newest metrics; `waits` is why it waits."""
    return RunDocument(
        run=run.run,
        task=run.task,
        state=phase_of(run),
        round=run.last_round,
        rounds=run.settings.rounds,
        started_unix_s=newest.started_unix_s if newest else 0.0,
        parameters=run.model.parameters if run.model is not None else None,
        metrics=newest.metrics if newest else {},
        reason=run.paused or waits or run.complaint,
    )


def ended_run(summary: RunSummary, facts: RunFacts) -> RunDocument:
    """The run as the ledger has it for good."""
    return RunDocument(
        run=summary.run,
        task=summary.task,
        state=summary.state,
        round=summary.rounds_done,
        rounds=summary.rounds,
        started_unix_s=summary.started_unix_s,
        ended_unix_s=facts.ended_unix_s,
        parameters=facts.parameters,
        metrics=summary.metrics,
        reason=summary.reason,
    )


def seconds_left(run: Run, closed: Sequence[RoundRow], unix_s: float) -> float | None:
    """Until the last round closes, at the pace of the newest ones; None where that cannot be told."""
    newest = closed[-PACE_ROUNDS:]
    done = sum(row.outcome != RoundOutcome.ABANDONED for row in newest)
    if not done or run.paused is not None:
        return None
    ended = newest[-1].closed_unix_s or unix_s
    left = (ended - newest[0].opened_unix_s) / done * (run.settings.rounds - run.completed)
    return round(max(0.0, left - (unix_s - ended)), 1)


def history(run: str, closed: Sequence[RoundRow]) -> HistoryDocument:
    """The closed rounds, oldest first; of too many, evenly chosen ones and the last."""
    document = _history(run, closed, MAX_HISTORY_ROUNDS)
    # Devices name the metrics that they report: names can be many, and long.
    while len(document.payload()) > MAX_HISTORY_BYTES and len(document.rounds) > 1:
        document = _history(run, closed, len(document.rounds) // 2)
    return document


def _history(run: str, closed: Sequence[RoundRow], at_most: int) -> HistoryDocument:
    step = -(-len(closed) // at_most) or 1
    chosen = closed[len(closed) - 1 :: -step][::-1] if closed else ()
    return HistoryDocument(run=run, rounds=tuple(_summary(row) for row in chosen))


def _summary(row: RoundRow) -> RoundSummary:
    return RoundSummary(
        round=row.round,
        outcome=row.outcome or "",
        reported=row.accepted,
        participants=row.participants,
        seconds=seconds_open(row),
        metrics=means(row.metrics),
        federated=means(row.federated),
        bytes_up=row.bytes_up,
        bytes_down=row.bytes_down,
    )


def seconds_open(row: RoundRow) -> float:
    """From its opening to its close."""
    return round(max(0.0, (row.closed_unix_s or row.opened_unix_s) - row.opened_unix_s), 3)
