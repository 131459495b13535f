"""The ledger's records as events for people and tools."""

import logging

from aggregator import records
from aggregator.coordinator.phases import Decision
from aggregator.narrate import narrate
from aggregator.records import Record
from broker.control import Reply
from broker.happenings import EventKind, Happening, Severity
from broker.messages import ReceiptOutcome
from broker.wire import decode

MAX_TEXT = 500
_SEVERITIES = {logging.WARNING: Severity.WARNING, logging.ERROR: Severity.ERROR}
_KINDS: dict[type[Record], EventKind] = {
    records.RunStarted: EventKind.RUN_STARTED,
    records.RunEnded: EventKind.RUN_ENDED,
    records.RoundOpened: EventKind.ROUND_OPENED,
    records.RoundClosed: EventKind.ROUND_CLOSED,
    records.Declined: EventKind.DECLINED,
    records.Invited: EventKind.INVITED,
    records.DeviceExcluded: EventKind.EXCLUDED,
    records.DeviceAdmitted: EventKind.ADMITTED,
    records.Incident: EventKind.INCIDENT,
}
_REFUSALS = {ReceiptOutcome.REJECTED: EventKind.REJECTED, ReceiptOutcome.LATE: EventKind.LATE}
# Who is lost and back, the fleet tells, also of devices that are in no round.
_DECISIONS: dict[str, EventKind] = {Decision.STRAGGLES: EventKind.STRAGGLER, Decision.CARRIES: EventKind.LATE}


def happening(record: Record, unix_s: float) -> Happening | None:
    """What a record tells, without its number; None where that is no event."""
    if isinstance(record, records.RequestAnswered):
        return _command(record, unix_s)
    kind = _kind(record)
    if kind is None:
        return None
    level, text = narrate(record)
    return Happening(
        number=0,
        at_unix_s=unix_s,
        kind=kind,
        severity=_SEVERITIES.get(level, Severity.INFO),
        text=text[:MAX_TEXT],
        run=getattr(record, "run", None),
        round=getattr(record, "round", None),
        device=getattr(record, "device", None),
        reason=_reason(record)[:MAX_TEXT],
    )


def _kind(record: Record) -> EventKind | None:
    match record:
        case records.Transition(target="paused"):
            return EventKind.RUN_PAUSED
        case records.Transition(source="paused"):
            return EventKind.RUN_RESUMED
        case records.UpdateRefused(outcome=outcome):
            return _REFUSALS.get(outcome)
        case records.Decided(decision=decision):
            return _DECISIONS.get(decision)
        case _:
            return _KINDS.get(type(record))


def _reason(record: Record) -> str:
    return getattr(record, "reason", None) or getattr(record, "detail", None) or ""


def _command(record: records.RequestAnswered, unix_s: float) -> Happening:
    reply = decode(Reply, record.reply)
    device = record.arguments.get("device")
    about = device or record.arguments.get("task")
    asked = f"{record.verb} {about}" if about else record.verb
    return Happening(
        number=0,
        at_unix_s=unix_s,
        kind=EventKind.COMMAND,
        severity=Severity.INFO if reply.ok else Severity.WARNING,
        text=f"{record.user} asked for {asked}: {reply.text}"[:MAX_TEXT],
        run=reply.run or _run_in(record.before) or _run_in(record.after),
        device=device if isinstance(device, str) else None,
        reason="" if reply.ok else reply.text,
        user=record.user,
        before=record.before,
        after=record.after,
    )


def _run_in(state: str) -> str | None:
    """The run that the service's record of its state names first."""
    run = state.split(" ", 1)[0]
    return None if run in {"", "-"} else run
