"""The coordinator's records as lines for people: what the log tells of a run."""

import dataclasses
import logging
import re

from aggregator import records
from aggregator.coordinator.phases import RoundOutcome, RunOutcome
from aggregator.records import Record
from broker.monitor import Means, means
from broker.names import is_of_whole

SHOWN_DEVICES = 10


class Patience:
    """Tells once of each wait for devices, when they had the time to be heard."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._told = False

    def tell(self, why: str, now: float) -> bool:
        """Whether to tell `why` a run waits, now; it is empty while none does."""
        if not why:
            self._since, self._told = None, False
            return False
        self._since = now if self._since is None else self._since
        tells = not self._told and now - self._since >= self._patience_s
        self._told |= tells
        return tells


def narrate(record: Record) -> tuple[int, str]:  # noqa: C901, PLR0911, PLR0912 - one line a kind of record
    """The level and the line for a record."""
    match record:
        case records.RunStarted(run, task):
            return logging.INFO, f"run {run} of task {task} begins"
        case records.RunPrepared(run, theta, program, _, parameters):
            sizes = f"model of {theta.size:,} bytes, program of {program.size:,}"
            return logging.INFO, f"run {run}: {parameters:,} parameters, {sizes}"
        case records.RunEnded(run, outcome, reason):
            level = logging.ERROR if outcome == RunOutcome.FAILED else logging.INFO
            return level, f"run {run} {outcome}: {reason}"
        case records.RoundOpened(_, number, cohort, target, quorum):
            asked = f"invites {len(cohort)} ({_names(cohort)})"
            return logging.INFO, f"round {number} {asked}, wants {target}, needs {quorum}"
        case records.RoundClosed(_, number, outcome, reason):
            central, fleet = _list(means(record.metrics)), _list(means(record.federated))
            parts = [reason, central, fleet and f"on the devices' own data {fleet}"]
            level = logging.INFO if outcome == RoundOutcome.COMPLETED else logging.WARNING
            return level, f"round {number} {outcome}: {'; '.join(part for part in parts if part)}"
        case records.UpdateAccepted(_, number, device):
            about = f"{record.examples:,} examples, {record.size:,} bytes, {record.seconds:.1f} s of training"
            return logging.INFO, f"round {number}: update of {device} accepted: {about}"
        case records.Incident(kind, _, _, subject, detail):
            return logging.ERROR, f"{kind}: {subject}: {detail}"
        case records.UpdateRefused(_, number, device, outcome, why):
            return logging.WARNING, f"round {number}: update of {device} {outcome}{f': {why}' if why else ''}"
        case records.Declined(_, number, device, why, detail):
            return logging.WARNING, f"round {number}: {device} declined, {why}: {detail}"
        case records.Invited(_, number, device):
            return logging.INFO, f"round {number}: {device} invited in place of another"
        case records.Decided(_, number, device, decision, reason):
            return logging.INFO, f"round {number}: {device + ' ' if device else ''}{decision}: {reason}"
        case records.Transition(run, _, _, "paused", reason):
            return logging.WARNING, f"run {run} pauses: {reason}"
        case records.Transition(run, _, "paused"):
            return logging.INFO, f"run {run} goes on"
        case records.DeviceExcluded(device, reason):
            return logging.INFO, f"{device} is excluded: {reason}"
        case records.DeviceAdmitted(device):
            return logging.INFO, f"{device} is admitted again"
        case _:
            return logging.DEBUG, str(record)


def facts(record: Record) -> dict[str, str | int | float]:
    """The same for tools: which event it is, and what the record says in words and numbers, by its own names.

    A reply to an operator, settings, metrics and lists are left to the ledger.
    """
    event = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(record).__name__).lower()
    said = ((field.name, getattr(record, field.name)) for field in dataclasses.fields(record))
    return {"event": event, **{name: value for name, value in said if isinstance(value, str | int | float)}}


def _names(cohort: tuple[str, ...]) -> str:
    more = f" and {len(cohort) - SHOWN_DEVICES} more" if len(cohort) > SHOWN_DEVICES else ""
    return ", ".join(cohort[:SHOWN_DEVICES]) + more


def _list(metrics: Means) -> str:
    """Of the whole data: with those of its parts, a line would get too long."""
    return ", ".join(f"{name} {value:.4f}" for name, value in sorted(metrics.items()) if is_of_whole(name))
