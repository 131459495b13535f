"""Strategies by name, from the entry points of what is installed."""

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from aggregator.strategies.base import Strategy
from host.errors import ConfigError

GROUP = "midge.strategies"


def strategy_names() -> list[str]:
    """List the strategies that are installed, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_strategy(name: str) -> Strategy:
    """Make a new instance of a strategy; raises ConfigError when it is not installed or cannot be loaded."""
    found = tuple(entry_points(group=GROUP, name=name))
    if not found:
        raise ConfigError(f"no strategy {name!r} is installed; there are: {', '.join(strategy_names())}")
    return _make(found[0])


def _make(point: EntryPoint) -> Strategy:
    try:
        return cast("Strategy", point.load()())
    except Exception as error:
        raise ConfigError(f"strategy {point.name!r} ({point.value}) cannot be loaded: {error}") from error
