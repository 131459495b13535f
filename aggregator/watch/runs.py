"""The documents about a run."""

from aggregator.coordinator.state import Run
from aggregator.watch.federation import phase_of
from broker.messages import RunSummary
from broker.monitor import RunDocument


def active_run(run: Run, newest: RunSummary | None, waits: str) -> RunDocument:
    """The run as the coordinator has it, with the ledger's newest metrics; `waits` is why it waits."""
    return RunDocument(
        run=run.run,
        task=run.task,
        state=phase_of(run),
        round=run.last_round,
        rounds=run.settings.rounds,
        started_unix_s=newest.started_unix_s if newest else 0.0,
        metrics=newest.metrics if newest else {},
        reason=run.paused or waits or run.complaint,
    )


def ended_run(summary: RunSummary) -> RunDocument:
    """The run as the ledger has it for good."""
    return RunDocument(
        run=summary.run,
        task=summary.task,
        state=summary.state,
        round=summary.rounds_done,
        rounds=summary.rounds,
        started_unix_s=summary.started_unix_s,
        metrics=summary.metrics,
        reason=summary.reason,
    )
