"""A comparison for people: tables in the terminal, a CSV file, a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from aggregator.stopping import StopRule
from deploy.report.canvas import label, style
from deploy.report.comparing import Compared, csv_rows, differences, names_of
from deploy.report.gather import thinned
from deploy.results.plots import Panel, plot_panels
from deploy.viewing import prose
from deploy.viewing.words import size
from host.errors import DataError

MAX_PANELS = 3
MAX_POINTS = 1000


def tables(runs: Sequence[Compared], rule: StopRule | None) -> Group:
    """What differs, and what came of it: a column a run."""
    differ = _table("what differs", runs)
    for name, values in differences(runs).items():
        differ.add_row(
            Text(name), *(Text(prose.NOTHING if value is None else str(value)) for value in values)
        )
    if not differ.rows:
        differ.add_row("nothing that the ledger knows of")
    results = _table("what came of it", runs)
    for name, cells in _results(runs, rule):
        results.add_row(Text(name), *map(Text, cells))
    return Group(differ, "", results)


def write_csv(runs: Sequence[Compared], path: Path) -> None:
    """A row a round and run; raises DataError."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(csv_rows(runs))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None


def plot(runs: Sequence[Compared], rule: StopRule | None, path: Path) -> None:
    """Draw each metric by round, a line a run; raises DataError, ConfigError."""
    names = names_of(runs, rule)[:MAX_PANELS]
    if not names:
        raise DataError(f"{path}: nothing to draw: none of these runs has measured anything yet")
    panels = []
    for name in names:
        lines = {one.run.run: _curve(one, name) for one in runs}
        levels = {str(rule): rule.bound} if rule is not None and rule.metric == name else {}
        panels.append(Panel(label(name), lines, levels))
    with style():
        plot_panels(path, panels)


def _curve(one: Compared, name: str) -> list[tuple[int, float]]:
    points = [(of.round, of.decisive[name]) for of in one.rounds if name in of.decisive]
    return [points[place] for place in thinned(range(len(points)), MAX_POINTS)]


def _table(title: str, runs: Sequence[Compared]) -> Table:
    table = Table("", title=title, title_justify="left")
    for one in runs:
        table.add_column(Text(one.run.run), justify="right", overflow="fold")
    return table


def _results(runs: Sequence[Compared], rule: StopRule | None) -> list[tuple[str, list[str]]]:
    rows = [
        ("state", [one.run.state for one in runs]),
        ("rounds closed", [str(len(one.closed)) for one in runs]),
    ]
    for name in names_of(runs, rule):
        rows.append((f"{name}, final", [prose.value(one.final.get(name)) for one in runs]))
        best = [(one.best(name), name) for one in runs]
        rows.append(
            (
                f"{name}, best (round)",
                [
                    f"{prose.value(of.decisive[key])} ({of.round})" if of else prose.NOTHING
                    for of, key in best
                ],
            )
        )
    rows += [
        ("time", [prose.duration(one.seconds) for one in runs]),
        ("up", [size(sum(of.bytes_up for of in one.rounds)) for one in runs]),
        ("down", [size(sum(of.bytes_down for of in one.rounds)) for one in runs]),
    ]
    return [*rows, *(_reaching(runs, rule) if rule is not None else ())]


def _reaching(runs: Sequence[Compared], rule: StopRule) -> list[tuple[str, list[str]]]:
    found = [one.reached(rule) for one in runs]
    never = "never"
    return [
        (f"{rule}: rounds", [str(of.round) if of else never for of in found]),
        (f"{rule}: time", [prose.duration(of.seconds) if of else never for of in found]),
        (f"{rule}: up", [size(of.bytes_up) if of else never for of in found]),
        (f"{rule}: down", [size(of.bytes_down) if of else never for of in found]),
    ]
