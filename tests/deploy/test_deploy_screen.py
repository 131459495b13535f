import io

import pytest
from rich.console import Console

from broker.monitor import RoundDocument, RunDocument
from broker.topics import MONITOR_ROUND, MONITOR_RUN, Topics
from deploy.local.screen import Screen
from deploy.viewing.view import View

TOPICS = Topics("local")


def tell_run(view: View, run: str) -> None:
    document = RunDocument(
        run=run, task="t", state="waiting", round=1, rounds=3, started_unix_s=float(run == "two")
    )
    view.take(TOPICS.topic(MONITOR_RUN, run=run), document.payload(), 0.0)


def tell_round(view: View, run: str, number: int, outcome: str | None = "completed") -> None:
    metrics = {"accuracy": 0.5, "accuracy on 1, 3, 7": 0.25}
    document = RoundDocument(
        run=run,
        round=number,
        phase="closed",
        target=1,
        quorum=1,
        reported=1,
        outcome=outcome,
        metrics=metrics,
    )
    topic = TOPICS.topic(MONITOR_ROUND, run=run, round=number)
    view.take(topic, document.payload(), 0.0)


def test_each_round_is_told_once_without_the_metrics_of_parts(capsys: pytest.CaptureFixture[str]) -> None:
    view, out = View(TOPICS), io.StringIO()
    screen = Screen(Console(file=out))
    for run in ("one", "two"):
        tell_run(view, run)
        for number in (2, 1):
            tell_round(view, run, number)
            screen.follow(view, {"a": "some"}, 0.0)
    assert out.getvalue().splitlines() == [
        f"round  {number}/3  1/1 updates  accuracy 0.5000" for number in (2, 1, 2, 1)
    ]
    assert capsys.readouterr().out == ""
