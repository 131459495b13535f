"""The newest events that the ledger can tell of again, for a process that begins."""

import json
import sqlite3
from collections.abc import Callable
from typing import TypeAlias

from aggregator import records
from aggregator.ledger import Ledger
from aggregator.ledger_rows import metrics_of
from aggregator.records import IncidentKind, Record
from aggregator.watch.story import happening
from broker.happenings import MAX_RECENT, Happening
from broker.messages import BlobRef, DeclineReason, ReceiptOutcome, RejectReason

_Make: TypeAlias = Callable[[sqlite3.Row], Record]


def remembered(ledger: Ledger) -> list[Happening]:
    """Oldest first, with numbers up to 0; who came, went, or was admitted, no ledger knows."""
    made = [
        (row["unix_s"], make(row))
        for statement, make in _TOLD
        for row in ledger.query(f"{statement} ORDER BY unix_s DESC LIMIT ?1", (MAX_RECENT,))
    ]
    # Of those of one moment, the order below is kept.
    made.sort(key=lambda pair: pair[0])
    told = [event for unix_s, record in made if (event := happening(record, unix_s)) is not None]
    newest = told[-MAX_RECENT:]
    return [
        event.model_copy(update={"number": place - len(newest)})
        for place, event in enumerate(newest, start=1)
    ]


def _incident(row: sqlite3.Row) -> Record:
    about = row["run"], row["round"], row["subject"], row["detail"]
    return records.Incident(IncidentKind(row["kind"]), *about)


def _answered(row: sqlite3.Row) -> Record:
    state = row["before"], row["after"], row["reply"]
    return records.RequestAnswered(row["id"], row["user"], row["verb"], json.loads(row["arguments"]), *state)


def _refused(row: sqlite3.Row) -> Record:
    reason = None if row["reason"] is None else RejectReason(row["reason"])
    outcome = ReceiptOutcome(row["outcome"])
    return records.UpdateRefused(row["run"], row["round"], row["device"], outcome, reason)


def _declined(row: sqlite3.Row) -> Record:
    reason = DeclineReason(row["reason"])
    return records.Declined(row["run"], row["round"], row["device"], reason, row["detail"])


def _closed(row: sqlite3.Row) -> Record:
    return records.RoundClosed(
        run=row["run"],
        round=row["round"],
        outcome=row["outcome"],
        reason=row["reason"],
        theta=BlobRef.model_validate_json(row["theta"]),
        metrics=metrics_of(row["metrics"]),
        federated=metrics_of(row["federated"]),
    )


def _opened(row: sqlite3.Row) -> Record:
    cohort = tuple(sorted((row["cohort"] or "").split(",")))
    return records.RoundOpened(row["run"], row["round"], cohort, row["target"], row["quorum"])


_TOLD: tuple[tuple[str, _Make], ...] = (
    ("SELECT * FROM incidents", _incident),
    ("SELECT *, answered_unix_s AS unix_s FROM requests", _answered),
    (
        "SELECT device, reason, excluded_unix_s AS unix_s FROM exclusions",
        lambda row: records.DeviceExcluded(row["device"], row["reason"]),
    ),
    (
        "SELECT run, task, started_unix_s AS unix_s FROM runs",
        lambda row: records.RunStarted(row["run"], row["task"], {}, 0),
    ),
    ("SELECT *, refused_unix_s AS unix_s FROM refusals", _refused),
    ("SELECT *, declined_unix_s AS unix_s FROM declines", _declined),
    (
        "SELECT * FROM decisions WHERE device NOT NULL AND decision IN ('straggles', 'carries')",
        lambda row: records.Decided(row["run"], row["round"], row["device"], row["decision"], row["reason"]),
    ),
    (
        """
        SELECT p.*, joined_unix_s AS unix_s
        FROM (SELECT * FROM rounds ORDER BY opened_unix_s DESC LIMIT ?1) r
        JOIN participants p USING (run, round)
        WHERE joined_unix_s > opened_unix_s""",
        lambda row: records.Invited(row["run"], row["round"], row["device"]),
    ),
    ("SELECT *, closed_unix_s AS unix_s FROM rounds WHERE outcome NOT NULL", _closed),
    (
        "SELECT run, outcome, reason, ended_unix_s AS unix_s FROM runs WHERE outcome NOT NULL",
        lambda row: records.RunEnded(row["run"], row["outcome"], row["reason"]),
    ),
    (
        "SELECT * FROM transitions WHERE 'paused' IN (source, target)",
        lambda row: records.Transition(row["run"], row["round"], row["source"], row["target"], row["reason"]),
    ),
    (
        """
        SELECT *, opened_unix_s AS unix_s, (
            SELECT group_concat(device) FROM participants p
            WHERE (p.run, p.round, p.joined_unix_s) = (r.run, r.round, r.opened_unix_s)
        ) AS cohort
        FROM (SELECT * FROM rounds ORDER BY opened_unix_s DESC LIMIT ?1) r""",
        _opened,
    ),
)
