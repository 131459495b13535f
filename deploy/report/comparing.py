"""Several runs side by side: what was set otherwise, what came of it, and what it took."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aggregator.stopping import StopRule
from broker.monitor import Means
from deploy.report.facts import RoundFacts, RunFacts
from deploy.report.measures import best_round, metric_names
from host.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Reached:
    """What it took until a round fulfilled a rule; seconds are since the run started."""

    round: int
    seconds: float
    bytes_up: int
    bytes_down: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One of the runs, with all its rounds and the versions that made it."""

    run: RunFacts
    rounds: Sequence[RoundFacts]
    versions: Mapping[str, str]
    seconds: float

    @property
    def closed(self) -> list[RoundFacts]:
        """Rounds that are over."""
        return [one for one in self.rounds if one.outcome is not None]

    @property
    def final(self) -> Means:
        """The metrics of the newest round that was evaluated."""
        return next((one.decisive for one in reversed(self.rounds) if one.decisive), {})

    def best(self, name: str) -> RoundFacts | None:
        """The round with the best value of a metric."""
        return best_round(self.rounds, name)

    def reached(self, rule: StopRule) -> Reached | None:
        """What it took to fulfil a rule, by the metrics that would have stopped the run; None: never."""
        up = down = 0
        for one in self.closed:
            up, down = up + one.bytes_up, down + one.bytes_down
            value = one.decisive.get(rule.metric)
            if value is not None and rule.fulfilled({rule.metric: (value, 1.0)}):
                seconds = (one.closed_unix_s or one.opened_unix_s) - self.run.started_unix_s
                return Reached(one.round, seconds, up, down)
        return None


def names_of(runs: Sequence[Compared], rule: StopRule | None) -> list[str]:
    """The metrics to compare, the decisive one first."""
    return metric_names([one for compared in runs for one in compared.rounds], rule)


def check_measured(runs: Sequence[Compared], rule: StopRule) -> None:
    """Raise ConfigError where no run measured what the rule is about."""
    found = {name for compared in runs for one in compared.rounds for name in one.decisive}
    if rule.metric not in found:
        known = ", ".join(sorted(found)) or "nothing"
        raise ConfigError(f"none of these runs measured {rule.metric!r}; measured was {known}")


def differences(runs: Sequence[Compared]) -> dict[str, list[Any]]:
    """What is not the same in all runs, with the value of each: task, start, settings, versions."""
    rows: dict[str, list[Any]] = {
        "task": [one.run.task for one in runs],
        "parameters": [one.run.parameters for one in runs],
        "begun from": [one.run.parent for one in runs],
        "first weights": [one.run.theta and one.run.theta[:16] for one in runs],
    }
    for name in _keys([one.run.settings for one in runs]):
        rows[name] = [one.run.settings.get(name) for one in runs]
    # A run whose folder is gone has none.
    for name in _keys([one.versions for one in runs]):
        found = [one.versions.get(name) for one in runs]
        rows[f"version of {name}"] = found if None not in found else []
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values)}


def document(runs: Sequence[Compared], rule: StopRule | None) -> dict[str, Any]:
    """All of it for programs."""
    names = names_of(runs, rule)
    return {
        "reach": None if rule is None else str(rule),
        "differences": differences(runs),
        "runs": [_entry(one, names, rule) for one in runs],
    }


def csv_rows(runs: Sequence[Compared]) -> Iterator[list[object]]:
    """A head, and a row a round and run; `federated` columns are of the devices' own validation data."""
    metrics = _keys([one.metrics for compared in runs for one in compared.rounds])
    federated = _keys([one.federated for compared in runs for one in compared.rounds])
    fields = ("outcome", "asked", "accepted", "bytes_up", "bytes_down")
    yield ["run", "round", *fields, "seconds", *metrics, *(f"federated {name}" for name in federated)]
    for compared in runs:
        for one in compared.rounds:
            about = [getattr(one, field) for field in fields]
            measured = [one.metrics.get(name) for name in metrics]
            measured += [one.federated.get(name) for name in federated]
            yield [compared.run.run, one.round, *about, one.seconds, *measured]


def _entry(one: Compared, names: Sequence[str], rule: StopRule | None) -> dict[str, Any]:
    best = {name: found for name in names if (found := one.best(name)) is not None}
    reached = None if rule is None else one.reached(rule)
    return {
        "run": one.run.run,
        "task": one.run.task,
        "state": one.run.state,
        "settings": one.run.settings,
        "versions": one.versions,
        "rounds": len(one.closed),
        "seconds": one.seconds,
        "bytes_up": sum(of.bytes_up for of in one.rounds),
        "bytes_down": sum(of.bytes_down for of in one.rounds),
        "final": one.final,
        "best": {name: {"round": found.round, "value": found.decisive[name]} for name, found in best.items()},
        "reached": None
        if reached is None
        else {field: getattr(reached, field) for field in Reached.__slots__},
    }


def _keys(maps: Sequence[Mapping[str, Any]]) -> list[str]:
    """All their keys, in the order of their first appearance."""
    return list(dict.fromkeys(key for one in maps for key in one))
