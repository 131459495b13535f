import logging

from aggregator import records
from aggregator.narrate import Patience, facts, narrate
from broker.messages import BlobRef, ReceiptOutcome, RejectReason

REF = BlobRef(digest="a" * 64, size=2048, chunk_bytes=1024)


def test_a_round_is_told_with_its_metrics_as_means() -> None:
    closed = records.RoundClosed(
        "run", 3, "completed", "", REF, {"loss": (5.0, 10.0)}, {"accuracy": (9.0, 10.0)}
    )
    assert narrate(closed) == (
        logging.INFO,
        "round 3 completed: loss 0.5000; on the devices' own data accuracy 0.9000",
    )


def test_an_abandoned_round_is_told_with_its_reason_alone() -> None:
    closed = records.RoundClosed("run", 3, "abandoned", "deadline with 0 of at least 2 updates", REF)
    assert narrate(closed)[1] == "round 3 abandoned: deadline with 0 of at least 2 updates"


def test_a_large_cohort_is_cut_short() -> None:
    cohort = tuple(f"pi-{number:02}" for number in range(12))
    told = narrate(records.RoundOpened("run", 1, cohort, 10, 5))[1]
    assert told == (
        "round 1 invites 12 (pi-00, pi-01, pi-02, pi-03, pi-04, pi-05, pi-06, pi-07, pi-08, pi-09 "
        "and 2 more), wants 10, needs 5"
    )


def test_what_somebody_should_look_at_is_a_warning() -> None:
    refused = records.UpdateRefused("run", 1, "pi-1", ReceiptOutcome.REJECTED, RejectReason.NOT_FINITE)
    assert narrate(refused) == (logging.WARNING, "round 1: update of pi-1 rejected: not-finite")


def test_decisions_are_told_with_their_reason() -> None:
    lost = records.Decided("run", 2, "pi-1", "lost", "silent for 15 s")
    assert narrate(lost) == (logging.INFO, "round 2: pi-1 lost: silent for 15 s")
    grace = records.Decided("run", 2, None, "grace", "30 s more for pi-2")
    assert narrate(grace) == (logging.INFO, "round 2: grace: 30 s more for pi-2")


def test_transitions_are_for_those_who_look_closer() -> None:
    assert narrate(records.Transition("run", 1, "waiting", "training"))[0] == logging.DEBUG


def test_each_wait_is_told_once_and_not_before_devices_had_time_to_be_heard() -> None:
    patience = Patience(15.0)
    assert [patience.tell("waits", now) for now in (100.0, 114.9, 115.0, 116.0, 999.0)] == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert not patience.tell("", 1000.0)
    assert [patience.tell("waits", now) for now in (1001.0, 1010.0, 1016.0)] == [False, False, True]


def test_the_facts_of_a_record_are_its_words_and_numbers() -> None:
    closed = records.RoundClosed("run", 3, "completed", "all of them", REF, {"loss": (5.0, 10.0)})
    assert facts(closed) == {
        "event": "round-closed",
        "run": "run",
        "round": 3,
        "outcome": "completed",
        "reason": "all of them",
    }


def test_what_is_not_there_is_no_fact_nor_is_what_an_operator_was_answered() -> None:
    refused = records.UpdateRefused("run", 1, "pi-1", ReceiptOutcome.LATE)
    assert facts(refused).keys() == {"event", "run", "round", "device", "outcome"}
    answered = records.RequestAnswered("id", "alice", "start", {"settings": {"a": 1}}, "-", "-", b"secret")
    assert not {"reply", "arguments"} & facts(answered).keys()
