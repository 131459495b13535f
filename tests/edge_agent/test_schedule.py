from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.schedule import EARLIEST_UNIX_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, SPREAD_S, Schedule

NOW, TODAY = 1000.0, 1_800_000_000.0
DAY_S = 86_400.0


def started(unix_s: float, noted: float | None, renew: float | None) -> Schedule:
    schedule = Schedule(Random(7))  # noqa: S311 - no secret
    schedule.start(NOW, unix_s, noted, renew)
    return schedule


def test_what_the_registrar_said_holds_over_restarts() -> None:
    assert started(TODAY, TODAY - DAY_S, TODAY + DAY_S).ask_at == NOW + DAY_S


def test_what_fell_due_while_the_device_was_off_is_asked_at_once() -> None:
    assert started(TODAY, TODAY - 9 * DAY_S, TODAY - DAY_S).ask_at == NOW


def test_who_was_never_told_asks_soon_and_not_all_at_once() -> None:
    assert NOW < started(TODAY, None, None).ask_at < NOW + SPREAD_S


def test_a_clock_that_cannot_be_right_counts_for_nothing() -> None:
    set_back = started(TODAY - DAY_S, TODAY, TODAY + 90 * DAY_S)
    epoch = started(60.0, 0.0, 90 * DAY_S)
    set_right = started(TODAY, 60.0, 90 * DAY_S)
    assert EARLIEST_UNIX_S < TODAY
    assert all(NOW <= schedule.ask_at < NOW + SPREAD_S for schedule in (set_back, epoch, set_right))


@given(st.floats(0, 400 * DAY_S))
def test_without_a_clock_it_still_waits_as_long_as_it_was_told(wait_s: float) -> None:
    schedule = started(60.0, None, None)
    schedule.asked(schedule.ask_at)
    waits = schedule.told(wait_s, NOW)
    assert schedule.ask_at == NOW + waits
    assert max(1.0, wait_s) <= waits <= 1.05 * max(1.0, wait_s)


def test_unanswered_requests_become_rare() -> None:
    schedule = started(TODAY, TODAY, TODAY)
    pauses = []
    for _ in range(20):
        asked_at = schedule.ask_at
        schedule.asked(asked_at)
        pauses.append(schedule.ask_at - asked_at)
    assert pauses[0] <= FIRST_PAUSE_S
    assert LONGEST_PAUSE_S / 2 <= pauses[-1] <= LONGEST_PAUSE_S
    schedule.told(0.0, NOW)
    schedule.asked(NOW)
    assert schedule.ask_at <= NOW + FIRST_PAUSE_S


def test_a_fleet_that_is_to_hurry_asks_within_the_time_and_never_later_than_it_would_anyway() -> None:
    late, due = started(TODAY, TODAY, TODAY + DAY_S), started(TODAY, TODAY, TODAY + 1.0)
    for schedule in (late, due):
        schedule.hurry(600.0, NOW)
    assert NOW <= late.ask_at <= NOW + 600.0
    assert due.ask_at <= NOW + 1.0
