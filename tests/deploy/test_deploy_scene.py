import io

import pytest
from rich.console import Console

from broker.monitor import RoundDocument, RunDocument
from broker.topics import MONITOR_ROUND, MONITOR_RUN, Topics
from deploy.local.scene import Scene
from deploy.local.screen import Screen

TOPICS = Topics("local")


def tell_run(scene: Scene, run: str) -> None:
    document = RunDocument(run=run, task="t", state="waiting", round=1, rounds=3, started_unix_s=1.0)
    scene.take(TOPICS.topic(MONITOR_RUN, run=run), document.model_dump_json().encode())


def tell_round(scene: Scene, run: str, number: int, outcome: str | None = "completed") -> None:
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
    scene.take(topic, document.model_dump_json().encode())


def test_rounds_of_an_earlier_run_are_not_those_of_the_newest() -> None:
    scene = Scene(TOPICS)
    tell_run(scene, "one")
    tell_round(scene, "one", 1)
    tell_round(scene, "one", 2)
    tell_run(scene, "two")
    tell_round(scene, "two", 1)
    tell_round(scene, "two", 2, outcome=None)
    tell_round(scene, "one", 2)
    assert [(document.run, document.round) for document in scene.closed] == [("two", 1)]


def test_each_round_is_told_once_without_the_metrics_of_parts(capsys: pytest.CaptureFixture[str]) -> None:
    scene, out = Scene(TOPICS), io.StringIO()
    screen = Screen(Console(file=out))
    for run in ("one", "two"):
        tell_run(scene, run)
        for number in (2, 1):
            tell_round(scene, run, number)
            screen.follow(scene, {"a": "some"}, 0.0)
    assert out.getvalue().splitlines() == [
        f"round  {number}/3  1/1 updates  accuracy 0.5000" for number in (2, 1, 2, 1)
    ]
    assert capsys.readouterr().out == ""


def test_what_is_no_document_changes_nothing() -> None:
    scene = Scene(TOPICS)
    tell_run(scene, "one")
    for payload in (b"", b"{}", b"no json"):
        scene.take(TOPICS.topic(MONITOR_RUN, run="one"), payload)
    scene.take("elsewhere", b"{}")
    assert scene.run is not None
    assert scene.run.state == "waiting"
