"""What happened besides training, counted: decisions, declines, refusals, incidents, commands."""

import json
import sqlite3

from deploy.report.facts import Noted, RunFacts, Tally, Troubles
from deploy.report.tables import rows

MAX_TALLIES = 20
MAX_NOTED = 20
MAX_EXCLUDED = 1000

# Of each kind the newest row gives the example: https://sqlite.org/lang_select.html#bareagg
_DECISIONS = """
    SELECT decision AS what, count(*) AS times, count(DISTINCT device) AS devices, max(id), device, round,
        reason AS detail
    FROM decisions WHERE run = ? GROUP BY decision ORDER BY times DESC LIMIT ?"""
_DECLINES = """
    SELECT reason AS what, count(*) AS times, count(DISTINCT device) AS devices, max(declined_unix_s), device,
        round, detail
    FROM declines WHERE run = ? GROUP BY reason ORDER BY times DESC LIMIT ?"""
_REFUSALS = """
    SELECT outcome || coalesce(': ' || reason, '') AS what, count(*) AS times,
        count(DISTINCT device) AS devices, max(refused_unix_s), device, round, '' AS detail
    FROM refusals WHERE run = ? GROUP BY outcome, reason ORDER BY times DESC LIMIT ?"""
_INCIDENTS = "SELECT * FROM incidents WHERE run = ? ORDER BY id DESC LIMIT ?"
_COMMANDS = """
    SELECT * FROM requests WHERE verb <> 'runs' AND (id = (SELECT request FROM runs WHERE run = ?)
        OR answered_unix_s BETWEEN ? AND ?) ORDER BY answered_unix_s LIMIT ?"""


def troubles_of(connection: sqlite3.Connection, run: str) -> Troubles:
    """Count what did not go as it should."""
    incidents = rows(connection, _INCIDENTS, run, MAX_NOTED)
    return Troubles(
        decisions=_tallies(connection, _DECISIONS, run),
        declines=_tallies(connection, _DECLINES, run),
        refusals=_tallies(connection, _REFUSALS, run),
        incidents=[
            Noted(row["unix_s"], row["kind"], f"{row['subject']}: {row['detail']}") for row in incidents
        ],
    )


def commands_of(connection: sqlite3.Connection, run: RunFacts, read_unix_s: float) -> list[Noted]:
    """What operators asked for while the run went on: who, what, before, after."""
    ended = run.ended_unix_s or read_unix_s
    found = rows(connection, _COMMANDS, run.run, run.started_unix_s, ended, MAX_NOTED)
    return [
        Noted(
            row["answered_unix_s"],
            f"{row['user']}: {row['verb']}",
            f"{_arguments(row['arguments'])} ({row['before']} → {row['after']})".strip(),
        )
        for row in found
    ]


def exclusions(connection: sqlite3.Connection) -> dict[str, str]:
    """Devices that are excluded now, and why."""
    found = rows(connection, "SELECT * FROM exclusions ORDER BY device LIMIT ?", MAX_EXCLUDED)
    return {row["device"]: row["reason"] for row in found}


def _tallies(connection: sqlite3.Connection, statement: str, run: str) -> list[Tally]:
    return [
        Tally(row["what"], row["times"], row["devices"], _example(row))
        for row in rows(connection, statement, run, MAX_TALLIES)
    ]


def _example(row: sqlite3.Row) -> str:
    who = f"round {row['round']}" if row["device"] is None else f"{row['device']}, round {row['round']}"
    return f"{who}: {row['detail']}" if row["detail"] else who


def _arguments(column: str) -> str:
    """Write a request's arguments as a person would have given them."""
    arguments = json.loads(column)
    settings = arguments.pop("settings", None) or {}
    words = [f"{value}" for value in arguments.values() if value]
    return " ".join([*words, *(f"{name}={value}" for name, value in settings.items())])
