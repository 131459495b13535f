"""What the ledger's tables hold, as values."""

import json
import sqlite3
from dataclasses import dataclass, fields
from typing import NamedTuple

from broker.control import RunSummary
from broker.messages import BlobRef, ReceiptOutcome, RejectReason
from broker.monitor import means
from broker.names import Metrics


class Answer(NamedTuple):
    """The final answer to an offer."""

    outcome: ReceiptOutcome
    reason: RejectReason | None = None


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A round as the ledger has it; `outcome` is None while it is open."""

    round: int
    target: int
    quorum: int
    participants: int
    accepted: int
    bytes_up: int
    bytes_down: int
    opened_unix_s: float
    closed_unix_s: float | None
    outcome: str | None
    reason: str | None
    theta: BlobRef | None
    metrics: Metrics | None
    federated: Metrics | None


@dataclass(frozen=True, slots=True)
class ParticipantRow:
    """What a device did in a round; `digest` to `size` are of its accepted update.

    `steps` are (state, seconds since the round opened); empty while the round is open.
    """

    device: str
    digest: str | None
    examples: int | None
    metrics: Metrics | None
    validation: Metrics | None
    seconds: float | None
    size: int | None
    steps: tuple[tuple[str, float], ...]
    bytes_down: int | None
    refused: str | None
    refused_reason: str | None
    declined: str | None
    reported: Metrics | None


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """A mishap, and when it was noted."""

    kind: str
    run: str | None
    round: int | None
    subject: str
    detail: str
    unix_s: float


def metrics_of(column: str | None) -> Metrics | None:
    """(sum, weight) by name."""
    if column is None:
        return None
    return {name: (total, weight) for name, (total, weight) in json.loads(column).items()}


def blob_of(row: sqlite3.Row) -> BlobRef:
    """A blob by its name."""
    return BlobRef(digest=row["digest"], size=row["size"], chunk_bytes=row["chunk_bytes"])


def summary_of(row: sqlite3.Row) -> RunSummary:
    """A run of `ledger_schema.RUNS`."""
    rounds = json.loads(row["settings"]).get("rounds")
    return RunSummary(
        run=row["run"],
        task=row["task"],
        state=row["outcome"] or "active",
        reason=row["reason"] or "",
        rounds=rounds if isinstance(rounds, int) else row["rounds_done"],
        rounds_done=row["rounds_done"],
        started_unix_s=row["started_unix_s"],
        metrics=means(metrics_of(row["metrics"])),
    )


def round_of(row: sqlite3.Row) -> RoundRow:
    """A round of `ledger_schema.ROUNDS`."""
    names = [field.name for field in fields(RoundRow)]
    values = {name: row[name] for name in names}
    for name in ("metrics", "federated"):
        values[name] = metrics_of(row[name])
    values["theta"] = None if row["theta"] is None else BlobRef.model_validate_json(row["theta"])
    return RoundRow(**values)


def participant_of(row: sqlite3.Row) -> ParticipantRow:
    """A participant of `ledger_schema.PARTICIPANTS`."""
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118  a Row iterates over its values
    for name in ("metrics", "validation", "reported"):
        values[name] = metrics_of(row[name])
    values["steps"] = tuple((state, at_s) for state, at_s in json.loads(row["steps"] or "[]"))
    return ParticipantRow(**values)


def incident_of(row: sqlite3.Row) -> IncidentRow:
    """A mishap."""
    return IncidentRow(**{field.name: row[field.name] for field in fields(IncidentRow)})
