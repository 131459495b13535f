"""The documents about a round: while it is open from the coordinator, and then from the ledger."""

from aggregator.coordinator.evaluating import sum_metrics
from aggregator.coordinator.fleet import Fleet
from aggregator.coordinator.state import Participant, Round, Run
from aggregator.ledger import ParticipantRow, RoundRow
from aggregator.watch.federation import phase_of
from broker.monitor import ParticipantDocument, RoundDocument, means


def open_round(run: Run, current: Round, fleet: Fleet, now: float) -> RoundDocument:
    """The round as the coordinator has it."""
    reports = [report for report in current.reports.values() if report is not None]
    return RoundDocument(
        run=run.run,
        round=current.number,
        phase=phase_of(run),
        target=current.target,
        quorum=current.quorum,
        reported=len(current.accepted),
        reason=current.note,
        participants={
            name: _participant(part, alive=fleet.alive(name, now)) for name, part in current.cohort.items()
        },
        metrics=means(current.metrics),
        federated=means(sum_metrics(reports)),
        bytes_up=sum(part.size for part in current.cohort.values()),
    )


def closed_round(run: str, row: RoundRow, participants: list[ParticipantRow]) -> RoundDocument:
    """The round as the ledger has it for good."""
    return RoundDocument(
        run=run,
        round=row.round,
        phase="closed",
        target=row.target,
        quorum=row.quorum,
        reported=row.accepted,
        bytes_up=row.bytes_up,
        participants={part.device: _closed_part(part) for part in participants},
        outcome=row.outcome,
        reason=row.reason or "",
        metrics=means(row.metrics),
        federated=means(row.federated),
    )


def _participant(part: Participant, *, alive: bool) -> ParticipantDocument:
    reason = part.rejected or part.declined or ("" if part.accepted else part.note)
    return ParticipantDocument(
        status=_status(part, alive=alive),
        examples=part.examples,
        validation=means(part.validation),
        reason=reason,
    )


def _status(part: Participant, *, alive: bool) -> str:
    if part.accepted is not None:
        return "accepted"
    if part.rejected is not None:
        return "rejected"
    if part.declined is not None:
        return "declined"
    if not alive:
        return "lost"
    return "straggles" if part.straggles else "invited"


def _closed_part(row: ParticipantRow) -> ParticipantDocument:
    status = "accepted" if row.digest else row.refused or ("declined" if row.declined else "missing")
    return ParticipantDocument(
        status=status,
        examples=row.examples or 0,
        validation=means(row.validation),
        reason=row.refused_reason or row.declined or "",
    )
