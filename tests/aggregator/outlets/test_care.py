from collections.abc import Iterator
from itertools import count

import pytest

from aggregator.coordinator import events as on
from aggregator.coordinator.operating import BY_OPERATOR
from aggregator.outlets.care import (
    FIRST_ROUND_S,
    LEAST_STALL_S,
    MAX_WAITING,
    REJECTED_OFTEN,
    STALLED_ROUNDS,
    SUMMARY_S,
    Care,
)
from aggregator.outlets.notice import MAX_NAMED, Notice
from aggregator.records import (
    DeviceExcluded,
    Incident,
    IncidentKind,
    Record,
    RunEnded,
    RunStarted,
    Transition,
    UpdateRefused,
)
from broker.messages import ReceiptOutcome, RejectReason
from broker.monitor import DeviceDocument, HistoryDocument, RoundSummary, RunDocument
from tests.aggregator.coordinator.world import World

LOST_S = 600.0
RUN = RunDocument(run="r1", task="t", state="training", round=1, rounds=9, started_unix_s=0.0)
REJECTED = UpdateRefused("r1", 1, "pi-1", ReceiptOutcome.REJECTED, RejectReason.NORM)


class Desk:
    """What is known, and who is called."""

    def __init__(self) -> None:
        self.now = 0.0
        ids: Iterator[int] = count(1)
        self.care = Care("lab", LOST_S, lambda: f"{next(ids)}")

    def run(self, **changes: object) -> None:
        self.care.see(RUN.model_copy(update=changes), self.now)

    def rounds(self, *seconds: float) -> None:
        rounds = tuple(
            RoundSummary(round=i + 1, outcome="completed", reported=1, participants=1, seconds=taken)
            for i, taken in enumerate(seconds)
        )
        self.care.see(HistoryDocument(run="r1", rounds=rounds), self.now)

    def device(self, name: str = "pi-1", *, live: bool = True, conflict: bool = False) -> None:
        self.care.see(DeviceDocument(device=name, live=live, state="idle", conflict=conflict), self.now)

    def note(self, *noted: Record) -> None:
        for record in noted:
            self.care.note(record, 1000.0)

    def called(self, after_s: float = 0.5) -> list[Notice]:
        self.now += after_s
        return self.care.look(self.now, 1000.0 + self.now)

    def kinds(self, after_s: float = 0.5) -> list[str]:
        return [notice.kind.value for notice in self.called(after_s)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_run_that_ends_is_told_with_its_newest_summary(desk: Desk) -> None:
    desk.run()
    desk.note(RunEnded("r1", "finished", "all rounds are done"))
    assert desk.called() == [], "its newest document does not know of it yet"
    desk.run(state="finished", metrics={"accuracy": 0.9}, ended_unix_s=9.0)
    (notice,) = desk.called()
    assert (notice.kind, notice.severity, notice.run) == ("run-ended", "info", "r1")
    assert notice.text == "run r1 finished: all rounds are done"
    assert notice.summary is not None
    assert notice.summary.metrics == {"accuracy": 0.9}
    assert desk.called() == []


@pytest.mark.parametrize("last", [True, False])
def test_a_run_that_ends_is_told_also_when_its_document_does_not_come(desk: Desk, *, last: bool) -> None:
    desk.run()
    desk.note(RunEnded("r1", "finished"))
    (notice,) = desk.care.look(1.0, 1000.0 if last else 1000.0 + SUMMARY_S, last=last)
    assert notice.summary == RUN


def test_a_run_that_fails_is_an_error_and_no_other_runs_summary_is_sent(desk: Desk) -> None:
    desk.run()
    desk.note(RunEnded("r2", "failed", "the task does not import"))
    (notice,) = desk.called()
    assert (notice.severity, notice.summary) == ("error", None)


def test_a_pause_is_told_unless_an_operator_asked_for_it(desk: Desk) -> None:
    desk.note(Transition("r1", 1, "training", "paused", BY_OPERATOR))
    assert desk.called() == []
    desk.note(Transition("r1", 1, "training", "paused", "3 rounds in a row were abandoned"))
    (notice,) = desk.called()
    assert (notice.kind, notice.reason) == ("run-paused", "3 rounds in a row were abandoned")
    desk.note(Transition("r1", 1, "paused", "training"))
    assert desk.called() == []


def test_the_word_for_an_operators_pause_is_the_coordinators() -> None:
    world = World()
    world.begin_training("a")
    world.tell(on.PauseRun())
    assert world.core.run is not None
    assert world.core.run.paused is not None
    assert BY_OPERATOR in str(world.core.run.paused)


def test_a_run_stands_still_when_no_round_closes_for_as_long_as_several_took(desk: Desk) -> None:
    desk.run()
    desk.rounds(100.0, 100.0, 4000.0)
    assert desk.kinds(STALLED_ROUNDS * 100.0) == []
    assert desk.kinds(1.0) == ["run-stalled"]
    assert desk.kinds(1000.0) == [], "told once"
    desk.rounds(100.0, 100.0, 4000.0, 1500.0)
    assert desk.kinds(1.0) == []


def test_short_rounds_have_a_least_patience_and_the_first_one_has_long(desk: Desk) -> None:
    desk.run()
    assert desk.kinds(FIRST_ROUND_S) == []
    desk.rounds(0.1)
    assert desk.kinds(LEAST_STALL_S) == []
    assert desk.kinds(1.0) == ["run-stalled"]


def test_a_run_that_is_paused_or_over_does_not_stand_still(desk: Desk) -> None:
    desk.run()
    desk.rounds(1.0)
    desk.run(state="paused")
    assert desk.kinds(LEAST_STALL_S + 1.0) == []
    desk.run(state="paused")
    desk.run()
    assert desk.kinds(LEAST_STALL_S) == [], "its clock stood"
    desk.run(ended_unix_s=9.0, state="finished")
    assert desk.kinds(10 * LEAST_STALL_S) == []


def test_a_device_that_is_lost_for_long_is_told_once_until_it_is_back(desk: Desk) -> None:
    desk.device(live=False)
    assert desk.kinds(LOST_S) == []
    desk.device(live=False)
    (notice,) = desk.called(1.0)
    assert (notice.kind, notice.devices) == ("lost", ("pi-1",))
    assert desk.kinds(LOST_S) == []
    desk.device()
    desk.device(live=False)
    assert desk.kinds(LOST_S) == []
    assert desk.kinds(1.0) == ["lost"]


def test_a_whole_fleet_that_is_lost_is_one_notice(desk: Desk) -> None:
    for i in range(500):
        desk.device(f"pi-{i}", live=False)
    (notice,) = desk.called(LOST_S + 1.0)
    assert len(notice.devices) == MAX_NAMED
    assert notice.text.endswith("and 490 more")


def test_two_machines_with_one_id_are_told_once(desk: Desk) -> None:
    desk.device(conflict=True)
    assert desk.kinds() == ["conflict"]
    desk.device(conflict=True)
    assert desk.kinds() == []
    desk.device()
    desk.device(conflict=True)
    assert desk.kinds() == ["conflict"]


def test_a_device_whose_updates_are_rejected_again_and_again_is_told_once_a_run(desk: Desk) -> None:
    desk.note(*[REJECTED] * (REJECTED_OFTEN - 1))
    assert desk.called() == []
    desk.note(REJECTED, REJECTED)
    (notice,) = desk.called()
    assert (notice.kind, notice.devices, notice.reason) == ("rejected", ("pi-1",), "norm-too-large")
    desk.note(RunStarted("r2", "t", {}, 0), *[REJECTED] * REJECTED_OFTEN)
    assert desk.kinds() == ["rejected"]


def test_a_device_that_was_excluded_and_admitted_begins_anew(desk: Desk) -> None:
    desk.note(*[REJECTED] * REJECTED_OFTEN, DeviceExcluded("pi-1", "broken"))
    assert desk.kinds() == ["rejected"]
    desk.note(*[REJECTED] * REJECTED_OFTEN)
    assert desk.kinds() == ["rejected"]


def test_an_update_that_came_late_is_not_rejected(desk: Desk) -> None:
    desk.note(*[UpdateRefused("r1", 1, "pi-1", ReceiptOutcome.LATE)] * 10)
    assert desk.called() == []


def test_a_damaged_file_is_told(desk: Desk) -> None:
    desk.note(Incident(IncidentKind.DAMAGED, "r1", 1, "spool/x", "wrong digest"))
    (notice,) = desk.called()
    assert (notice.kind, notice.reason, notice.round) == ("incident", "wrong digest", 1)


def test_a_device_that_is_excluded_is_nobodys_care(desk: Desk) -> None:
    desk.device(live=False)
    desk.device("pi-2", conflict=True)
    desk.note(DeviceExcluded("pi-1", "stolen"), DeviceExcluded("pi-2", "stolen"))
    assert desk.kinds(LOST_S + 1.0) == []


def test_notices_that_nobody_asks_for_are_bounded(desk: Desk) -> None:
    desk.note(*[Incident(IncidentKind.DAMAGED, None, None, "x", "y")] * (2 * MAX_WAITING))
    assert len(desk.called()) == MAX_WAITING


def test_each_notice_has_an_id_of_its_own(desk: Desk) -> None:
    desk.device(conflict=True)
    desk.note(RunEnded("r1", "stopped"), RunEnded("r2", "stopped"))
    notices = desk.called()
    assert len({notice.id for notice in notices}) == len(notices) == 3
