"""What views ask the ledger, against what was written into it."""

from pathlib import Path

import pytest

from aggregator.ledger import Ledger
from aggregator.records import (
    Course,
    Record,
    RoundClosed,
    RoundOpened,
    RunEnded,
    RunPrepared,
    RunStarted,
    Transition,
    UpdateAccepted,
)
from aggregator.watch.annals import Standings, durations_s, run_facts
from aggregator.watch.past import Past
from tests.aggregator.coordinator.world import PROGRAM, memory_ledger, theta


class Clerk:
    """Writes into a ledger, at times of its own."""

    def __init__(self, run: str = "run-a") -> None:
        self.ledger: Ledger = memory_ledger()
        self.ledger._clock = lambda: self.unix_s
        self.unix_s = 1000.0
        self.run = run
        self.write(RunStarted(run, "mnist", {"rounds": 9}, 0))

    def write(self, *records: Record, after_s: float = 0.0) -> None:
        self.unix_s += after_s
        self.ledger.commit(records, None)

    def update(self, round_: int, device: str, examples: int, loss: float) -> UpdateAccepted:
        return UpdateAccepted(
            run=self.run,
            round=round_,
            device=device,
            digest=f"{round_:x}" * 64,
            size=100,
            examples=examples,
            metrics={"loss": (loss * examples, float(examples))},
            validation={"accuracy": (loss, 2.0)},
            seconds=2.0,
        )

    def round(
        self, number: int, *updates: UpdateAccepted, cohort: tuple[str, ...], outcome: str = "completed"
    ) -> None:
        """A whole round; it is open for 10 s."""
        self.write(
            RoundOpened(self.run, number, cohort, len(cohort), 1),
            Transition(self.run, number, "waiting", "training"),
        )
        self.write(*updates, after_s=6.0)
        self.write(Transition(self.run, number, "training", "aggregating"), after_s=1.0)
        self.write(Transition(self.run, number, "aggregating", "evaluating"), after_s=1.0)
        metrics = {"accuracy": (float(number), 10.0)}
        self.write(
            *[Course(self.run, number, device, (("fetching", 0.5),), 30) for device in cohort],
            RoundClosed(self.run, number, outcome, "", theta(number), metrics, metrics),
            Transition(self.run, number, "evaluating", "waiting"),
            after_s=2.0,
        )


def test_how_each_device_did_is_told_of_the_closed_rounds_of_a_run() -> None:
    clerk = Clerk()
    clerk.round(1, clerk.update(1, "a", 30, 0.5), clerk.update(1, "b", 10, 0.7), cohort=("a", "b", "c"))
    clerk.round(2, clerk.update(2, "a", 60, 0.25), cohort=("a", "b"))
    clerk.write(RoundOpened("run-a", 3, ("a", "d"), 2, 1))
    clerk.write(clerk.update(3, "a", 1000, 0.1))
    found = Standings(clerk.ledger, "run-a").read(2)
    assert sorted(found) == ["a", "b", "c"], "the open round does not count"
    assert (found["a"].asked, found["a"].accepted, found["a"].reliability) == (2, 2, 1.0)
    assert (found["b"].asked, found["b"].accepted, found["b"].reliability) == (2, 1, 0.5)
    assert (found["c"].asked, found["c"].accepted, found["c"].reliability) == (1, 0, 0.0)
    assert [found[name].contribution for name in "abc"] == [0.9, 0.1, 0.0]
    assert found["a"].training == {"loss": 0.25}, "of its newest update"
    assert found["b"].training == {"loss": pytest.approx(0.7)}
    assert found["c"].training == {}
    assert found["a"].validation == {"accuracy": 0.125}


def test_standings_are_the_same_read_round_by_round_also_with_updates_that_come_late() -> None:
    clerk = Clerk()
    grown = Standings(clerk.ledger, "run-a")
    clerk.round(1, clerk.update(1, "a", 30, 0.5), cohort=("a", "b"))
    grown.read(1)
    clerk.write(clerk.update(1, "b", 10, 0.75))
    assert grown.read(1)["b"].accepted == 1
    clerk.round(2, cohort=("a", "c"), outcome="abandoned")
    clerk.round(3, clerk.update(3, "a", 60, 0.25), cohort=("a",))
    grown.read(3)
    clerk.round(4, clerk.update(4, "c", 100, 0.125), cohort=("b", "c"))
    found = grown.read(4)
    assert found == Standings(clerk.ledger, "run-a").read(4)
    assert (found["a"].asked, found["a"].accepted, found["a"].training) == (3, 2, {"loss": 0.25})
    assert (found["b"].asked, found["b"].accepted, found["b"].contribution) == (2, 1, 0.05)


def test_a_run_without_updates_has_no_contributions() -> None:
    clerk = Clerk()
    clerk.round(1, cohort=("a",), outcome="abandoned")
    found = Standings(clerk.ledger, "run-a").read(1)
    assert (found["a"].asked, found["a"].contribution) == (1, None)


def test_the_phases_of_a_round_are_timed_and_its_pauses_apart() -> None:
    clerk = Clerk()
    clerk.write(Transition("run-a", None, "idle", "preparing"))
    clerk.write(Transition("run-a", None, "preparing", "waiting"), after_s=50.0)
    for source, target, after_s in (
        ("waiting", "training", 3.0),
        ("training", "paused", 5.0),
        ("paused", "training", 60.0),
        ("training", "aggregating", 2.0),
    ):
        clerk.write(Transition("run-a", 1, source, target), after_s=after_s)
    assert durations_s(clerk.ledger, "run-a", 1) == {"training": 7.0, "paused": 60.0}
    clerk.write(Transition("run-a", 1, "aggregating", "evaluating"), after_s=1.0)
    clerk.write(Transition("run-a", 1, "evaluating", "waiting"), after_s=4.0)
    clerk.write(Transition("run-a", 1, "waiting", "paused"), after_s=9.0)
    clerk.write(Transition("run-a", 1, "paused", "waiting"), after_s=9.0)
    whole = {"training": 7.0, "paused": 60.0, "aggregating": 1.0, "evaluating": 4.0}
    assert durations_s(clerk.ledger, "run-a", 1) == whole, "what comes after it is not of it"


def test_a_run_is_told_with_its_size_and_its_end() -> None:
    clerk = Clerk()
    assert run_facts(clerk.ledger, "run-a") == (None, None)
    clerk.write(RunPrepared("run-a", theta(0), PROGRAM, "1" * 64, 1234))
    clerk.write(RunEnded("run-a", "finished"), after_s=7.0)
    assert run_facts(clerk.ledger, "run-a") == (1234, 1007.0)


def test_the_past_takes_over_what_is_new_and_begins_anew_with_a_run(tmp_path: Path) -> None:
    clerk = Clerk()
    past = Past(clerk.ledger, tmp_path)
    clerk.round(1, clerk.update(1, "a", 30, 0.5), cohort=("a",))
    assert [row.round for row in past.read()] == [1]
    assert past.read() == []
    clerk.write(RoundOpened("run-a", 2, ("a",), 1, 1), Transition("run-a", 2, "waiting", "training"))
    assert past.read() == []
    assert past.opened is not None
    assert (past.opened.round, past.durations_s) == (2, {})
    assert past.history is not None
    (line,) = past.history.rounds
    assert (line.round, line.seconds, line.reported, line.participants) == (1, 10.0, 1, 1)
    assert (line.bytes_up, line.bytes_down, line.metrics) == (100, 30, {"accuracy": 0.1})
    clerk.write(RunStarted("run-b", "mnist", {"rounds": 9}, 0), after_s=5.0)
    assert past.read() == []
    assert past.run is not None
    assert past.run.run == "run-b"
    assert not past.closed
    assert not past.standings
    assert not past.history


def test_an_empty_ledger_has_no_past(tmp_path: Path) -> None:
    past = Past(memory_ledger(), tmp_path)
    assert past.read() == []
    assert past.run is None
