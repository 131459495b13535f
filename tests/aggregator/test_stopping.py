import math

import pytest

from aggregator.stopping import StopRule
from broker.names import Metrics


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("accuracy >= 0.97", StopRule("accuracy", ">=", 0.97)),
        ("loss<=5e-2", StopRule("loss", "<=", 0.05)),
        ("  accuracy on 1, 3, 7  >= 1 ", StopRule("accuracy on 1, 3, 7", ">=", 1.0)),
        ("score >= -3", StopRule("score", ">=", -3.0)),
        ("accuracy >= 0.99999999", StopRule("accuracy", ">=", 0.99999999)),
        ("loss <= 1.23456789e-12", StopRule("loss", "<=", 1.23456789e-12)),
    ],
)
def test_a_rule_is_read(text: str, rule: StopRule) -> None:
    assert StopRule.parse(text) == rule
    assert StopRule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accuracy",
        "accuracy > 0.9",
        "accuracy = 0.9",
        ">= 0.9",
        "accuracy >= 97 %",
        "accuracy >= much",
        "accuracy >= nan",
        "loss <= inf",
        "loss <=",
        f"{'x' * 65} >= 1",
        "loss <= 1 or accuracy >= 1",
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in 'accuracy >= 0\.97'"):
        StopRule.parse(text)


@pytest.mark.parametrize(
    "metrics", [None, {}, {"accuracy": (1.0, 4.0)}, {"accuracy": (1.0, 4.0), "loss": (1.0, 4.0)}]
)
def test_there_is_nothing_to_tell_while_the_metric_is_measured_or_nothing_is(metrics: Metrics | None) -> None:
    assert StopRule.parse("accuracy >= 1").complaint(metrics) == ""


def test_a_metric_that_is_not_measured_is_told_with_those_that_are() -> None:
    rule = StopRule.parse("acuracy >= 1")
    measured: Metrics = {"loss": (1.0, 4.0), "accuracy on 1, 3": (1.0, 4.0)}
    assert rule.complaint(measured) == (
        "stop_when: the evaluation has no 'acuracy', only 'accuracy on 1, 3', 'loss'"
    )


def test_the_complaint_is_short_whatever_the_names() -> None:
    rule = StopRule.parse(f"{'x' * 64} >= 1")
    measured: Metrics = {f"{number} {'y' * 60}": (1.0, 1.0) for number in range(60)}
    assert len(rule.complaint(measured)) < 280


@pytest.mark.parametrize(
    ("rule", "metrics", "fulfilled"),
    [
        ("accuracy >= 0.75", {"accuracy": (3.0, 4.0)}, True),
        ("accuracy >= 0.76", {"accuracy": (3.0, 4.0)}, False),
        ("loss <= 0.5", {"loss": (2.0, 4.0), "accuracy": (4.0, 4.0)}, True),
        ("loss <= 0.4", {"loss": (2.0, 4.0), "accuracy": (0.0, 4.0)}, False),
        ("auc >= 0", {"accuracy": (3.0, 4.0)}, False),
        ("loss <= 1", {"loss": (0.0, 0.0)}, False),
        ("loss <= 1", {"loss": (-math.inf, 1.0)}, False),
        ("loss <= 1", None, False),
    ],
)
def test_means_are_compared_and_what_was_not_measured_reaches_nothing(
    rule: str, metrics: Metrics | None, *, fulfilled: bool
) -> None:
    assert StopRule.parse(rule).fulfilled(metrics) is fulfilled
