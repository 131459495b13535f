"""A run and its round, told apart in time, never contradict each other."""

import pytest

from broker.monitor import RoundDocument, RunDocument
from broker.topics import MONITOR_ROUND, MONITOR_RUN, Topics
from deploy.viewing.view import View
from tests.deploy.viewing.scene import RUN, round_document

TOPICS = Topics("lab")


def run_at(state: str, at: float, number: int = 3) -> RunDocument:
    return RunDocument(
        run=RUN, task="digits", state=state, round=number, rounds=10, started_unix_s=0.0, at_unix_s=at
    )


def round_at(phase: str, at: float, number: int = 3) -> RoundDocument:
    outcome = "completed" if phase == "closed" else None
    return round_document(number, outcome).model_copy(update={"phase": phase, "at_unix_s": at})


@pytest.mark.parametrize("run_first", [True, False], ids=["run-first", "round-first"])
@pytest.mark.parametrize(
    ("run", "current", "said"),
    [
        (run_at("aggregating", 1.0), round_at("training", 2.0, 4), ("training", 4, "training")),
        (run_at("aggregating", 2.0), round_at("training", 1.0), ("aggregating", 3, "aggregating")),
        (run_at("training", 1.0), round_at("evaluating", 2.0), ("evaluating", 3, "evaluating")),
        (run_at("training", 1.0), round_at("closed", 2.0), ("waiting", 3, "closed")),
        (run_at("paused", 2.0), round_at("training", 1.0), ("paused", 3, "paused")),
        (run_at("paused", 1.0), round_at("training", 2.0), ("training", 3, "training")),
        (run_at("stopped", 1.0), round_at("training", 2.0), ("stopped", 3, "training")),
        (run_at("waiting", 2.0), round_at("closed", 1.0), ("waiting", 3, "closed")),
        (run_at("preparing", 1.0, 0), round_at("training", 2.0, 1), ("training", 1, "training")),
    ],
    ids=lambda value: value.state if isinstance(value, RunDocument) else "",
)
def test_what_was_said_last_holds_for_both(
    run: RunDocument, current: RoundDocument, said: tuple[str, int, str], *, run_first: bool
) -> None:
    told = [
        (TOPICS.topic(MONITOR_RUN, run=RUN), run.payload()),
        (TOPICS.topic(MONITOR_ROUND, run=RUN, round=current.round), current.payload()),
    ]
    view = View(TOPICS)
    for topic, payload in told if run_first else reversed(told):
        view.take(topic, payload, 0.0)
    assert view.run is not None
    assert (view.run.state, view.run.round, view.rounds(RUN)[-1].phase) == said


def test_what_was_left_of_the_phase_before_is_not_told_of_the_next() -> None:
    view = View(TOPICS)
    view.take(TOPICS.topic(MONITOR_ROUND, run=RUN, round=3), round_at("training", 1.0).payload(), 0.0)
    view.take(TOPICS.topic(MONITOR_RUN, run=RUN), run_at("aggregating", 2.0).payload(), 0.0)
    (current,) = view.rounds(RUN)
    assert (current.seconds_left, current.eta_s) == (None, None)
