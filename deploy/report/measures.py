"""What is said of numbers: which metric decides, how values spread, how even they are."""

import re
from collections.abc import Iterable, Sequence
from statistics import median, quantiles

from aggregator.stopping import StopRule
from broker.names import is_of_whole
from deploy.report.facts import RoundFacts, Spread

MAX_NAMES = 4
_LOWER = re.compile(r"loss|error|mae|mse|rmse|mape|deviation|divergence|crossentropy|hinge|perplexity")


def lower_is_better(name: str) -> bool:
    """Whether a metric, by its name, measures what is wrong."""
    return _LOWER.search(name.lower()) is not None


def metric_names(rounds: Iterable[RoundFacts], rule: StopRule | None = None) -> list[str]:
    """The metrics to look at: that of the rule, accuracies, others, losses; those of all data only."""
    found = {name for one in rounds for name in one.decisive if is_of_whole(name)}
    aim = rule.metric if rule is not None else None

    def rank(name: str) -> tuple[bool, bool, bool, str]:
        return name != aim, lower_is_better(name), "accuracy" not in name, name

    ranked = sorted(found, key=rank)
    # A loss is looked at, however many other metrics there are.
    chosen = ranked[:MAX_NAMES]
    if "loss" in ranked and "loss" not in chosen:
        chosen[-1] = "loss"
    return chosen


def read_goal(text: str) -> StopRule:
    """Read `METRIC=NUMBER`, to be reached from below or above as the metric asks, or a rule as it stands.

    Raises ValueError.
    """
    name, equals, number = text.partition("=")
    if equals and not name.endswith((">", "<")):
        sign = "<=" if lower_is_better(name) else ">="
        return StopRule.parse(f"{name.strip()} {sign} {number.strip()}")
    return StopRule.parse(text)


def better(name: str, one: float, other: float) -> bool:
    """Whether `one` is a better value of a metric than `other`."""
    return one < other if lower_is_better(name) else one > other


def best_round(rounds: Iterable[RoundFacts], name: str) -> RoundFacts | None:
    """The first round with the best value; None where none was measured."""
    best: RoundFacts | None = None
    for one in rounds:
        if name in one.decisive and (best is None or better(name, one.decisive[name], best.decisive[name])):
            best = one
    return best


def spread(values: Sequence[float]) -> Spread:
    """Quartiles of at least one value, as in Hyndman and Fan, Am. Stat. 50(4), 1996, definition 7."""
    if len(values) == 1:
        return Spread(1, *[values[0]] * 5)
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return Spread(len(values), min(values), lower, median(values), upper, max(values))


def jain(values: Sequence[float]) -> float | None:
    """How even values from 0 up are: 1 when all are alike, 1/n when one has it all; None where all are 0.

    Jain, Chiu and Hawe, DEC-TR-301, 1984: https://arxiv.org/abs/cs/9809099
    """
    squares = sum(value * value for value in values)
    if squares == 0 or min(values) < 0:
        return None
    return sum(values) ** 2 / (len(values) * squares)
