"""The documents about a round: while it is open from the coordinator, and then from the ledger."""

from collections.abc import Mapping, Sequence

from aggregator.coordinator.core import Coordinator
from aggregator.coordinator.evaluating import sum_metrics
from aggregator.coordinator.state import Participant, Round, Run
from aggregator.ledger_rows import ParticipantRow, RoundRow
from aggregator.watch.federation import LOST, phase_of
from aggregator.watch.runs import seconds_open
from broker.monitor import ParticipantDocument, RoundDocument, StepDocument, means
from broker.names import Metrics

# An open round is said again and again: with more participants than these, without their details.
DETAILED_PARTICIPANTS = 128


def open_round(
    core: Coordinator, run: Run, current: Round, durations_s: Mapping[str, float], now: float
) -> RoundDocument:
    """The round as the coordinator has it; `durations_s` are of the phases that are over."""
    cohort = current.cohort
    alive = core.fleet.living_among(cohort, now)
    detailed = len(cohort) <= DETAILED_PARTICIPANTS
    reports = [report for report in current.reports.values() if report is not None]
    return RoundDocument(
        run=run.run,
        round=current.number,
        phase=phase_of(run),
        target=current.target,
        quorum=current.quorum,
        reported=len(current.accepted),
        durations_s=dict(durations_s),
        participants={
            name: _participant(part, _status(part, alive=name in alive), current.reports.get(name))
            if detailed
            else _brief(part, _status(part, alive=name in alive))
            for name, part in cohort.items()
        },
        reason=current.note,
        metrics=means(current.metrics),
        federated=means(sum_metrics(reports)),
        bytes_up=sum(part.size for part in cohort.values()),
        bytes_down=sum(part.bytes_down for part in cohort.values()),
    )


def eta_s(core: Coordinator, current: Round, now: float) -> float | None:
    """Until the target is reached, or else all who are awaited have delivered; None while that is unknown."""
    awaited = core.fleet.living_among(current.outstanding, now)
    dues = sorted(core.due[name] for name in awaited & core.due.keys())
    needed = min(current.target - len(current.accepted), len(awaited))
    return round(max(0.0, dues[needed - 1] - now), 1) if 0 < needed <= len(dues) else None


def closed_round(
    run: str, row: RoundRow, participants: Sequence[ParticipantRow], durations_s: Mapping[str, float]
) -> RoundDocument:
    """The round as the ledger has it for good."""
    return RoundDocument(
        run=run,
        round=row.round,
        phase="closed",
        target=row.target,
        quorum=row.quorum,
        reported=row.accepted,
        opened_unix_s=row.opened_unix_s,
        seconds=seconds_open(row),
        durations_s=dict(durations_s),
        participants={part.device: _closed_part(part) for part in participants},
        outcome=row.outcome,
        reason=row.reason or "",
        metrics=means(row.metrics),
        federated=means(row.federated),
        bytes_up=row.bytes_up,
        bytes_down=row.bytes_down,
    )


def _participant(part: Participant, status: str, report: Metrics | None) -> ParticipantDocument:
    return ParticipantDocument(
        status=status,
        examples=part.examples,
        training=means(part.training),
        validation=means(part.validation),
        evaluation=means(report),
        seconds=part.seconds,
        bytes_up=part.size,
        bytes_down=part.bytes_down,
        steps=tuple(StepDocument(state=step.state, at_s=step.at_s) for step in part.steps),
        reason=_reason(part),
    )


def _brief(part: Participant, status: str) -> ParticipantDocument:
    return ParticipantDocument(
        status=status,
        examples=part.examples,
        seconds=part.seconds,
        bytes_up=part.size,
        bytes_down=part.bytes_down,
        reason=_reason(part),
    )


def _reason(part: Participant) -> str:
    return part.rejected or part.declined or ("" if part.accepted else part.note)


def _status(part: Participant, *, alive: bool) -> str:
    if part.accepted is not None:
        return "accepted"
    if part.rejected is not None:
        return "rejected"
    if part.declined is not None:
        return "declined"
    if not alive:
        return LOST
    return "straggles" if part.straggles else "invited"


def _closed_part(row: ParticipantRow) -> ParticipantDocument:
    status = "accepted" if row.digest else row.refused or ("declined" if row.declined else "missing")
    return ParticipantDocument(
        status=status,
        examples=row.examples or 0,
        training=means(row.metrics),
        validation=means(row.validation),
        evaluation=means(row.reported),
        seconds=row.seconds or 0.0,
        bytes_up=row.size or 0,
        bytes_down=row.bytes_down or 0,
        steps=tuple(StepDocument(state=state, at_s=at_s) for state, at_s in row.steps),
        reason=row.refused_reason or row.declined or "",
    )
