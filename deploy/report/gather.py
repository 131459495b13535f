"""Reads the facts of a run from its ledger, a round at a time."""

import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aggregator.stopping import StopRule
from broker.monitor import Means, means
from deploy.report.events import commands_of, exclusions, troubles_of
from deploy.report.facts import Course, DeviceFacts, Facts, Fit, RoundFacts, RoundSpread, RunFacts, Timeline
from deploy.report.measures import metric_names, spread
from deploy.report.tables import rows
from host.errors import ConfigError

MAX_ROUNDS = 100_000
MAX_SPREADS = 100
MAX_COURSES = 30
MAX_TOLD_RUNS = 5

_PARTS = {
    "asked": "SELECT round, count(*) AS value FROM participants WHERE run = ? GROUP BY round",
    "accepted": "SELECT round, count(*) AS value FROM updates WHERE run = ? GROUP BY round",
    "bytes_up": "SELECT round, sum(size) AS value FROM updates WHERE run = ? GROUP BY round",
    "bytes_down": "SELECT round, sum(bytes_down) AS value FROM courses WHERE run = ? GROUP BY round",
}
_BY_DEVICE = {
    "asked": "SELECT device, count(*) AS value FROM participants WHERE run = ? GROUP BY device",
    "declined": "SELECT device, count(*) AS value FROM declines WHERE run = ? GROUP BY device",
    "refused": "SELECT device, count(*) AS value FROM refusals WHERE run = ? GROUP BY device",
    "bytes_down": "SELECT device, sum(bytes_down) AS value FROM courses WHERE run = ? GROUP BY device",
    "silent": """
        SELECT device, count(*) AS value FROM participants p WHERE run = ?
            AND EXISTS (SELECT 1 FROM rounds r
                WHERE (r.run, r.round) = (p.run, p.round) AND r.closed_unix_s IS NOT NULL)
            AND NOT EXISTS (SELECT 1 FROM updates o
                WHERE (o.run, o.round, o.device) = (p.run, p.round, p.device))
            AND NOT EXISTS (SELECT 1 FROM declines o
                WHERE (o.run, o.round, o.device) = (p.run, p.round, p.device))
            AND NOT EXISTS (SELECT 1 FROM refusals o
                WHERE (o.run, o.round, o.device) = (p.run, p.round, p.device))
        GROUP BY device""",
}
# SQLite takes what is not aggregated from the row of the maximum: https://sqlite.org/lang_select.html#bareagg
_UPDATES_BY_DEVICE = """
    SELECT device, count(*) AS accepted, sum(size) AS bytes_up, sum(seconds) AS seconds, max(round), examples
    FROM updates WHERE run = ? GROUP BY device"""
_OWN = "SELECT device, validation AS found FROM updates WHERE run = ? AND round = ?"
_FEDERATED = "SELECT device, metrics AS found FROM reports WHERE run = ? AND round = ?"


def gather(connection: sqlite3.Connection, run: str) -> Facts:
    """Sum a run up; raises ConfigError when the ledger does not know it."""
    about = run_facts(connection, run)
    rounds = round_facts(connection, run)
    names = metric_names(rounds, stop_rule(about))
    spreads, fits = _spreads(connection, run, rounds, names)
    read_unix_s = time.time()
    phases, by_round = _phases(connection, about, read_unix_s)
    return Facts(
        run=about,
        read_unix_s=read_unix_s,
        rounds=rounds,
        names=names,
        devices=_devices(connection, run),
        spreads=spreads,
        fits=fits,
        phases=phases,
        phases_by_round=by_round,
        timelines=_timelines(connection, run, rounds),
        troubles=troubles_of(connection, run),
        commands=commands_of(connection, about, read_unix_s),
        excluded=exclusions(connection),
    )


def run_facts(connection: sqlite3.Connection, run: str) -> RunFacts:
    """Read the run itself; raises ConfigError when the ledger does not know it."""
    found = next(rows(connection, "SELECT * FROM runs WHERE run = ?", run), None)
    if found is None:
        newest = rows(connection, "SELECT run FROM runs ORDER BY started_unix_s DESC LIMIT ?", MAX_TOLD_RUNS)
        known = ", ".join(row["run"] for row in newest) or "none"
        raise ConfigError(f"the ledger knows no run {run!r}; its newest runs: {known}")
    asked = rows(connection, "SELECT user FROM requests WHERE id = ?", found["request"])
    return RunFacts(
        run=run,
        task=found["task"],
        settings=json.loads(found["settings"]),
        seed=found["seed"],
        parent=found["parent"],
        user=next((row["user"] for row in asked), None),
        started_unix_s=found["started_unix_s"],
        ended_unix_s=found["ended_unix_s"],
        outcome=found["outcome"],
        reason=found["reason"] or "",
        parameters=found["parameters"],
        theta=_digest(found["theta"]),
        program=_digest(found["program"]),
        layout=found["layout"],
    )


def round_facts(connection: sqlite3.Connection, run: str) -> list[RoundFacts]:
    """Read a run's rounds in order; of more than 100,000, the newest."""
    parts = {
        part: {row["round"]: row["value"] for row in rows(connection, text, run)}
        for part, text in _PARTS.items()
    }
    text = "SELECT * FROM rounds WHERE run = ? ORDER BY round DESC LIMIT ?"
    found = [
        RoundFacts(
            round=row["round"],
            outcome=row["outcome"],
            reason=row["reason"] or "",
            target=row["target"],
            quorum=row["quorum"],
            opened_unix_s=row["opened_unix_s"],
            closed_unix_s=row["closed_unix_s"],
            metrics=_means(row["metrics"]),
            federated=_means(row["federated"]),
            **{part: counts.get(row["round"], 0) for part, counts in parts.items()},
        )
        for row in rows(connection, text, run, MAX_ROUNDS)
    ]
    return found[::-1]


def stop_rule(run: RunFacts) -> StopRule | None:
    """The run's rule, if it had one that can be read."""
    text = run.settings.get("stop_when")
    try:
        return StopRule.parse(text) if isinstance(text, str) else None
    except ValueError:
        return None


def thinned(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly chosen, the first and the last among them."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(place * (len(numbers) - 1) / (most - 1))] for place in range(most)]


def _devices(connection: sqlite3.Connection, run: str) -> list[DeviceFacts]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for part, text in _BY_DEVICE.items():
        for row in rows(connection, text, run):
            found[row["device"]][part] = row["value"]
    for row in rows(connection, _UPDATES_BY_DEVICE, run):
        found[row["device"]] |= {part: row[part] for part in ("accepted", "bytes_up", "seconds", "examples")}
    names = [name for name in DeviceFacts.__slots__ if name != "device"]
    return [
        DeviceFacts(device, **{name: parts.get(name, 0) for name in names})
        for device, parts in sorted(found.items())
    ]


def _spreads(
    connection: sqlite3.Connection, run: str, rounds: Sequence[RoundFacts], names: Sequence[str]
) -> tuple[list[RoundSpread], list[Fit]]:
    """The devices' values of evenly chosen rounds, and each device's newest of these."""
    spreads: list[RoundSpread] = []
    fits: dict[str, Fit] = {}
    trained = [one.round for one in rounds if one.accepted]
    for number in thinned(trained, MAX_SPREADS):
        own, federated = (_by_device(connection, text, run, number) for text in (_OWN, _FEDERATED))
        spreads.append(RoundSpread(number, _spread(own, names), _spread(federated, names)))
        for device in own.keys() | federated.keys():
            fit = Fit(device, number, own.get(device, {}), federated.get(device, {}))
            before = fits.get(device)
            # A round with both counts for more than a newer one with one of them.
            if before is None or (fit.own and fit.federated) or not (before.own and before.federated):
                fits[device] = fit
    return spreads, [fits[device] for device in sorted(fits)]


def _by_device(connection: sqlite3.Connection, text: str, run: str, number: int) -> dict[str, Means]:
    found = {row["device"]: _means(row["found"]) for row in rows(connection, text, run, number)}
    return {device: values for device, values in found.items() if values}


def _spread(found: Mapping[str, Means], names: Sequence[str]) -> dict[str, Any]:
    values = {name: [means[name] for means in found.values() if name in means] for name in names}
    return {name: spread(numbers) for name, numbers in values.items() if numbers}


def _phases(
    connection: sqlite3.Connection, run: RunFacts, read_unix_s: float
) -> tuple[dict[str, float], dict[int, dict[str, float]]]:
    """Seconds in each state: in all, and of each round."""
    total: dict[str, float] = defaultdict(float)
    by_round: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    text = "SELECT round, target, unix_s FROM transitions WHERE run = ? ORDER BY id"
    before: sqlite3.Row | None = None

    def add(begun: sqlite3.Row, ended_unix_s: float) -> None:
        seconds = max(0.0, ended_unix_s - begun["unix_s"])
        total[begun["target"]] += seconds
        if begun["round"] is not None and begun["target"] != "waiting":
            by_round[begun["round"]][begun["target"]] += seconds

    for row in rows(connection, text, run.run):
        if before is not None:
            add(before, row["unix_s"])
        before = row
    if before is not None and before["target"] != "idle":
        add(before, run.ended_unix_s or read_unix_s)
    return dict(total), {number: dict(parts) for number, parts in by_round.items()}


def _timelines(connection: sqlite3.Connection, run: str, rounds: Sequence[RoundFacts]) -> list[Timeline]:
    """How participants spent the newest and the slowest of the rounds of which that is known."""
    text = "SELECT DISTINCT round FROM courses WHERE run = ?"
    known = {row["round"] for row in rows(connection, text, run)}
    told = [one for one in rounds if one.round in known and one.seconds is not None]
    if not told:
        return []
    newest, slowest = told[-1], max(told, key=lambda one: one.seconds or 0.0)
    found = [_timeline(connection, run, newest, "the newest")]
    if slowest is not newest:
        found.append(_timeline(connection, run, slowest, "the slowest"))
    return found


def _timeline(connection: sqlite3.Connection, run: str, one: RoundFacts, why: str) -> Timeline:
    """Those who took longest, when there are too many."""
    text = "SELECT device, steps FROM courses WHERE run = ? AND round = ? ORDER BY device"
    found = [
        Course(row["device"], tuple((str(state), float(at_s)) for state, at_s in json.loads(row["steps"])))
        for row in rows(connection, text, run, one.round)
    ]
    slowest = sorted(found, key=lambda course: -max((at_s for _, at_s in course.steps), default=0.0))
    shown = {course.device for course in slowest[:MAX_COURSES]}
    courses = [course for course in found if course.device in shown]
    return Timeline(one.round, one.seconds or 0.0, why, courses, len(found) - len(courses))


def _digest(column: str | None) -> str | None:
    return None if column is None else str(json.loads(column)["digest"])


def _means(column: str | None) -> Means:
    return {} if column is None else means(json.loads(column))
