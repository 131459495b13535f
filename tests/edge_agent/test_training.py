import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.messages import Announcement, DeclineReason
from broker.wire import MAX_MESSAGE_BYTES, encode
from edge_agent.data.settings import NpzSettings
from edge_agent.effects import Evaluate, Train
from edge_agent.events import (
    Evaluated,
    SpeedMeasured,
    Trained,
    TrainerDied,
    TrainingFailed,
    TrainingProgressed,
)
from edge_agent.settings import AgentSettings
from edge_agent.store import Store
from edge_agent.training import Outcome, Trainer, TrainerSaid, default_memory_bytes, inspect_data
from host.children import PRINTED_BYTES
from host.errors import ChildError
from host.inbox import Inbox
from tests.edge_agent.agent_world import THETA, assignment
from tests.edge_agent.stub_trainer import UPDATE

STUB = "tests.edge_agent.stub_trainer"


class Bench:
    """A trainer, what it said, and a theta that tells the stub how to behave."""

    def __init__(self, store: Store, **settings: Any) -> None:  # noqa: ANN401 - any setting
        broker = {"url": "mqtt://127.0.0.1"}
        data = NpzSettings(path=Path("unused.npz"))
        given = {"device": "pi-1", "broker": broker, "data": data, "nice": 0, **settings}
        self.inbox: Inbox[TrainerSaid] = Inbox(100)
        self.store = store
        self.trainer = Trainer(AgentSettings.model_validate(given), store, self.inbox.put, STUB)

    def train(self, job: int, behaviour: str = "train", now: float = 0) -> None:
        self.store.blob(THETA).write_text(behaviour)
        self.trainer.start(Train(job, assignment(), assignment().settings), now)

    def outcome(self, now: float = 0) -> Outcome:
        """What the trainer's last message means; that on the way there is left out."""
        while True:
            outcome = self.next(now)
            if outcome is not None and not isinstance(outcome, TrainingProgressed | SpeedMeasured):
                return outcome

    def next(self, now: float = 0) -> Outcome | None:
        """What the trainer's next message means."""
        said = self.inbox.get(30)
        assert said is not None
        return self.trainer.understand(said, now)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []
    with closing(Store(tmp_path)) as store:

        def make(**settings: Any) -> Bench:  # noqa: ANN401 - any setting
            benches.append(Bench(store, **settings))
            return benches[-1]

        yield make
        for made in benches:
            made.trainer.stop()


def test_an_update_is_taken_over_under_its_transfer_id(bench: Callable[..., Bench], tmp_path: Path) -> None:
    here = bench()
    here.train(4)
    outcome = here.outcome()
    assert isinstance(outcome, Trained)
    assert (outcome.job, outcome.examples, outcome.metrics) == (4, 7, {"loss": (3.5, 7.0)})
    assert (tmp_path / f"update-{outcome.update.transfer}.update").read_bytes().startswith(UPDATE)
    assert outcome.update.chunk_bytes == THETA.chunk_bytes


def test_a_measured_speed_is_told_and_the_job_goes_on(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.train(4)
    assert [here.next(), here.next()] == [TrainingProgressed(4, 0.5, 10.0), SpeedMeasured(4, 12.5)]
    assert here.trainer.fire(599) is None
    assert isinstance(here.outcome(), Trained)


def test_a_warm_trainer_does_the_next_job_and_goes_when_it_was_idle_for_long(
    bench: Callable[..., Bench],
) -> None:
    here = bench(trainer_idle_s=60)
    here.train(1)
    here.outcome(now=100)
    warm = here.trainer.pid
    assert here.trainer.next_deadline() == 160
    here.trainer.fire(159.9)
    assert here.trainer.pid == warm
    here.trainer.start(Evaluate(2, assignment(1, "evaluating", theta=THETA)), 150)
    assert here.trainer.next_deadline() == 150 + 600
    assert here.outcome(now=200) == Evaluated(2, {"accuracy": (3.0, 4.0)})
    assert here.trainer.pid == warm
    here.trainer.fire(260)
    assert (here.trainer.pid, here.trainer.next_deadline()) == (None, None)


def test_a_trainer_that_is_not_kept_warm_is_gone_after_its_job(bench: Callable[..., Bench]) -> None:
    here = bench(keep_trainer_warm=False)
    here.train(1)
    assert isinstance(here.outcome(), Trained)
    assert here.trainer.pid is None
    here.train(2)
    assert isinstance(here.outcome(), Trained)


def test_what_a_stopped_trainer_said_is_not_understood(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.train(1)
    said = [here.inbox.get(30), here.inbox.get(30)]
    here.trainer.stop()
    here.train(2, "fail")
    assert [here.trainer.understand(late, 0) for late in said if late] == [None, None]
    assert here.outcome() == TrainingFailed(2, DeclineReason.CONTRACT, "labels outside of the classes")


def test_a_dead_trainer_is_told_and_replaced(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.train(1, "die")
    assert here.outcome() == TrainerDied(1, "exit status 3")
    assert here.trainer.pid is None
    here.train(2)
    assert isinstance(here.outcome(), Trained)


def test_an_update_that_is_not_on_the_disk_declines_for_the_disk(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.train(1)
    while (said := here.inbox.get(30)) and said.message and said.message["event"] != "trained":
        here.trainer.understand(said, 0)
    here.store.new_update.unlink()
    assert said is not None
    outcome = here.trainer.understand(said, 0)
    assert isinstance(outcome, TrainingFailed)
    assert outcome.reason is DeclineReason.DISK


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"event": "sang"},
        {"event": "progress", "progress": 2},
        {"event": "measured", "examples_per_s": -1},
        {"event": "measured", "examples_per_s": float("inf")},
        {
            "event": "trained",
            "examples": 3,
            "metrics": {"loss": [float("nan"), 1]},
            "validation": {},
            "seconds": 1,
        },
        {"event": "evaluated", "metrics": {}},
        {"event": "failed", "reason": "bored"},
    ],
)
def test_an_answer_that_is_nonsense_or_not_asked_for_fails_the_job(
    bench: Callable[..., Bench], message: dict[str, Any]
) -> None:
    here = bench()
    here.train(1, "hang")
    outcome = here.trainer.understand(TrainerSaid(1, message), 0)
    assert isinstance(outcome, TrainingFailed)
    assert outcome.reason is DeclineReason.TRAINING_FAILED


def test_the_data_is_looked_at_in_a_child() -> None:
    assert inspect_data({}, nice=0, module=STUB)["examples"] == 7
    with pytest.raises(ChildError, match="ended before it answered"):
        inspect_data({}, nice=0, module="tests.edge_agent.agent_world")


def test_a_machine_that_cannot_start_a_process_is_told_and_tried_again(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = bench()
    job = Train(1, assignment(), assignment().settings)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/no/python")
        (died,) = here.trainer.start(job, 0)
    assert isinstance(died, TrainerDied)
    assert "cannot be started" in died.detail
    here.train(2)
    assert isinstance(here.outcome(), Trained)


def test_a_contract_too_large_to_hand_over_fails_the_job_only(bench: Callable[..., Bench]) -> None:
    here = bench()
    names = tuple(f"{number:04}" + "\x01" * 56 for number in range(4096))
    asked = assignment(contract={"shape": (4,), "classes": names})
    assert len(encode(Announcement(session=1, sequence=1, assignment=asked))) <= MAX_MESSAGE_BYTES
    (failed,) = here.trainer.start(Train(1, asked, asked.settings), 0)
    assert isinstance(failed, TrainingFailed)
    assert failed.reason is DeclineReason.CONTRACT
    assert here.trainer.fire(600) is None
    assert here.trainer.pid is None


@pytest.mark.parametrize(
    ("detail", "told"),
    [("caf\udce9.png", "caf?.png"), ("\x1b[2Jone\ntwo", "?[2Jone?two"), ("é" * 999, "é" * 300)],
    ids=["no text", "for a terminal", "long"],
)
def test_what_a_trainer_says_is_made_fit_for_logs_and_messages(
    bench: Callable[..., Bench], detail: str, told: str
) -> None:
    here = bench()
    here.train(1, "hang")
    outcome = here.trainer.understand(
        TrainerSaid(1, {"event": "failed", "reason": "data", "detail": detail}), 0
    )
    assert outcome == TrainingFailed(1, DeclineReason.DATA, told)


def test_a_silent_trainer_is_ended_and_its_job_fails_for_good(bench: Callable[..., Bench]) -> None:
    here = bench(trainer_silence_s=30)
    here.train(1, "mute", now=100)
    child = here.trainer.pid
    assert here.trainer.fire(129.9) is None
    failed = here.trainer.fire(130)
    assert isinstance(failed, TrainingFailed)
    assert failed.reason is DeclineReason.TRAINING_FAILED
    assert "said nothing for 30 s" in failed.detail
    assert (here.trainer.pid, here.trainer.next_deadline()) == (None, None)
    assert child is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    here.train(2)
    assert isinstance(here.outcome(), Trained)


def test_a_trainer_that_tells_its_progress_is_not_silent(bench: Callable[..., Bench]) -> None:
    here = bench(trainer_silence_s=30)
    here.train(1, "hang", now=100)
    said = here.inbox.get(30)
    assert said is not None
    assert here.trainer.understand(said, 120) == TrainingProgressed(1, 0.5, 10)
    assert here.trainer.fire(130) is None
    assert here.trainer.fire(150) is not None


def test_a_trainer_that_talks_without_end_is_heard_one_message_at_a_time(
    bench: Callable[..., Bench], capfd: pytest.CaptureFixture[str]
) -> None:
    here = bench()
    here.train(1, "flood")
    for _ in range(3):
        said = here.inbox.get(30)
        assert said is not None
        assert here.inbox.get(0.1) is None
        assert here.trainer.understand(said, 0) == TrainingProgressed(1, 0.5, 0)
    here.trainer.stop()
    assert 0 < len(capfd.readouterr().err) < 2 * PRINTED_BYTES


def test_a_trainer_that_answers_what_was_not_asked_is_ended(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.store.blob(THETA).write_text("twice")
    here.trainer.start(Evaluate(1, assignment(1, "evaluating", theta=THETA)), 0)
    assert here.outcome() == Evaluated(1, {"accuracy": (3.0, 4.0)})
    assert here.inbox.get(30) == TrainerSaid(1, None, "answered what was not asked")


def test_a_trainer_that_failed_in_training_is_not_used_again(bench: Callable[..., Bench]) -> None:
    here = bench()
    here.train(1, "nonsense")
    assert isinstance(here.outcome(), TrainingFailed)
    assert here.trainer.pid is None


def test_a_trainer_is_limited_to_most_of_the_memory_unless_it_is_set(bench: Callable[..., Bench]) -> None:
    for given, limit in (({}, default_memory_bytes()), ({"trainer_memory_bytes": 1 << 30}, 1 << 30)):
        here = bench(**given)
        here.train(1, "hang")
        here.inbox.get(30)
        assert here.trainer.pid is not None
        assert resource.prlimit(here.trainer.pid, resource.RLIMIT_DATA) == (limit, limit)
        here.trainer.stop()
