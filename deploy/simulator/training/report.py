"""What a comparison found: as a table, as JSON, as CSV, as a picture."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Group
from rich.table import Table

from aggregator.coordinator.phases import RoundOutcome
from aggregator.stopping import StopRule
from broker.monitor import Means
from deploy.results.plots import Panel, plot_panels
from deploy.simulator.training.comparison import Comparison, Trial
from deploy.simulator.training.federation import RoundResult
from host.errors import DataError

MAX_PANELS = 3


def table(comparison: Comparison, rule: StopRule | None) -> Group:
    """Who has how much, and a row for each of the settings: means over its seeds, with their deviation."""
    shown = Table()
    shown.add_column("settings")
    names = _metrics(comparison)
    for heading in ("rounds", *names, *([f"rounds to\n{rule}"] if rule else [])):
        shown.add_column(heading, justify="right")
    for name in comparison.plan.settings:
        trials = comparison.of(name)
        cells = [_spread([float(len(_completed(trial))) for trial in trials], ".4g")]
        cells += [_spread(_last(trials, metric), ".4f") for metric in names]
        if rule is not None:
            cells.append(_reached(trials, rule))
        shown.add_row(name, *cells)
    # A title would be wrapped to the width of the table.
    return Group(_title(comparison), shown)


def document(comparison: Comparison, rule: StopRule | None) -> dict[str, Any]:
    """All of it for programs: the same seed gives the same."""
    plan = comparison.plan
    runs = [
        {
            "settings": trial.name,
            "seed": trial.settings.seed,
            "ended": trial.result.ended,
            "theta": trial.result.theta,
            "metrics": _last_metrics(trial),
            "rounds_to_reach": None if rule is None else rounds_to(trial, rule),
            "history": [_entry(one) for one in trial.result.rounds],
        }
        for trial in comparison.trials
    ]
    shares = {
        str(seed): {share.device: {"examples": share.examples, "labels": share.labels} for share in dealt}
        for seed, dealt in comparison.shares.items()
    }
    return {
        "dropout": plan.dropout,
        "reach": None if rule is None else str(rule),
        "settings": {
            name: settings.model_dump(mode="json", exclude_none=True)
            for name, settings in plan.settings.items()
        },
        "shares": shares,
        "runs": runs,
    }


def write_csv(comparison: Comparison, path: Path) -> None:
    """A row for each round of each run; raises DataError when the file cannot be written.

    Columns that begin with `federated` are what devices' own validation examples say.
    """
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_rows(comparison))
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None


def _rows(comparison: Comparison) -> Iterator[list[object]]:
    metrics, federated = _names(comparison, "metrics"), _names(comparison, "federated")
    heads = ["settings", "seed", "round", "outcome", "participants", "accepted"]
    yield [*heads, *metrics, *(f"federated {name}" for name in federated)]
    for trial in comparison.trials:
        for one in trial.result.rounds:
            measured: list[object] = [(one.metrics or {}).get(name, "") for name in metrics]
            measured += [one.federated.get(name, "") for name in federated]
            about = [one.round, one.outcome.value, one.participants, one.accepted]
            yield [trial.name, trial.settings.seed, *about, *measured]


def plot(comparison: Comparison, rule: StopRule | None, path: Path) -> None:
    """Draw each metric by round, the mean over the seeds; raises DataError, ConfigError."""
    panels = []
    for metric in _metrics(comparison)[:MAX_PANELS]:
        lines = {name: _curve(comparison.of(name), metric) for name in comparison.plan.settings}
        levels = {str(rule): rule.bound} if rule is not None and rule.metric == metric else {}
        panels.append(Panel(metric, lines, levels))
    plot_panels(path, panels)


def rounds_to(trial: Trial, rule: StopRule) -> int | None:
    """How many rounds it took to fulfil the rule, abandoned ones included; None when it never was."""
    return next((one.round for one in trial.result.rounds if one.reaches(rule)), None)


def _curve(trials: Sequence[Trial], metric: str) -> list[tuple[int, float]]:
    """Means over all trials, of the rounds that each of them has a value for."""
    found = [
        {one.round: one.decisive[metric] for one in trial.result.rounds if metric in one.decisive}
        for trial in trials
    ]
    shared = sorted(set.intersection(*(set(values) for values in found)))
    return [(number, fmean(values[number] for values in found)) for number in shared]


def _title(comparison: Comparison) -> str:
    dealt = [share for shares in comparison.shares.values() for share in shares]
    devices = len(dealt) // len(comparison.shares)
    sizes = [share.examples for share in dealt]
    kinds = [len(share.labels) for share in dealt]
    words = f"{devices} devices with {_range(sizes)} examples"
    return f"{words} of {_range(kinds)} classes" if any(kinds) else words


def _range(values: Sequence[int]) -> str:
    least, most = min(values), max(values)
    return f"{least}" if least == most else f"{least} to {most}"


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    mean = f"{fmean(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ± {stdev(values):{form}}"


def _reached(trials: Sequence[Trial], rule: StopRule) -> str:
    found = [float(rounds) for trial in trials if (rounds := rounds_to(trial, rule)) is not None]
    missing = len(trials) - len(found)
    return _spread(found, ".4g") + (f" ({missing} of {len(trials)} never)" if missing else "")


def _metrics(comparison: Comparison) -> list[str]:
    """Names of what decides, sorted: of the held-out data where there is such."""
    return sorted({name for trial in comparison.trials for name in _last_metrics(trial)})


def _names(comparison: Comparison, source: str) -> list[str]:
    rounds = (one for trial in comparison.trials for one in trial.result.rounds)
    return sorted({name for one in rounds for name in getattr(one, source) or ()})


def _last(trials: Sequence[Trial], metric: str) -> list[float]:
    return [found[metric] for trial in trials if metric in (found := _last_metrics(trial))]


def _last_metrics(trial: Trial) -> Means:
    completed = _completed(trial)
    return completed[-1].decisive if completed else {}


def _completed(trial: Trial) -> list[RoundResult]:
    return [one for one in trial.result.rounds if one.outcome is RoundOutcome.COMPLETED]


def _entry(one: RoundResult) -> dict[str, Any]:
    return {
        "round": one.round,
        "outcome": one.outcome.value,
        "reason": one.reason,
        "participants": one.participants,
        "accepted": one.accepted,
        "metrics": one.metrics or {},
        "federated": one.federated,
    }
