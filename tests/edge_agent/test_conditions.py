from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from broker.messages import DeclineReason
from broker.settings import BrokerSettings
from edge_agent.conditions import MIN_FREE_DISK_BYTES, Conditions, find_hindrance
from edge_agent.data.settings import NpzSettings
from edge_agent.hours import TimeOfDay, is_within
from edge_agent.settings import AgentSettings

MIB = 1 << 20
FINE = Conditions(
    time=TimeOfDay(12, 0),
    free_disk_bytes=1 << 30,
    temperature_c=60.0,
    throttled=0xF0000,
    battery=0.9,
    free_memory_bytes=500 * MIB,
)


def settings(**given: object) -> AgentSettings:
    base = {
        "device": "pi-1",
        "broker": BrokerSettings(url="mqtt://pi"),
        "data": NpzSettings(path=Path("unused.npz")),
        "max_temperature_c": 80.0,
        "hours": ("08:00-18:00", "22:00-06:00"),
    }
    return AgentSettings.model_validate(base | given)


def found(now: Conditions, **given: object) -> tuple[str, str] | None:
    hindrance = find_hindrance(now, settings(**given))
    return hindrance and (hindrance.reason.value, hindrance.detail)


def test_nothing_hinders_where_all_is_well_or_nothing_is_known() -> None:
    assert found(FINE) is None
    assert found(Conditions(), hours=()) is None


@pytest.mark.parametrize(
    ("worse", "expected"),
    [
        ({"pause": "for 2 h"}, ("paused", "paused by its owner for 2 h")),
        ({"time": TimeOfDay(7, 59)}, ("hours", "takes part at 08:00-18:00, 22:00-06:00 only (hours)")),
        (
            {"time": None},
            ("hours", "no clock is set, and it takes part at 08:00-18:00, 22:00-06:00 only (hours)"),
        ),
        ({"disk_fault": "state_folder is read-only"}, ("disk", "state_folder is read-only")),
        (
            {"free_disk_bytes": MIN_FREE_DISK_BYTES - 1},
            ("disk", "7 MiB free for state_folder, at least 8: free some"),
        ),
        ({"temperature_c": 80.1}, ("heat", "80.1 °C, at most 80 (max_temperature_c)")),
        (
            {"throttled": 0x50005},
            ("throttled", "under-voltage, throttled (decline_throttled): look at power supply and cooling"),
        ),
        ({"battery": 0.19}, ("battery", "19%, at least 20% (min_battery)")),
        ({"free_memory_bytes": 63 * MIB}, ("memory", "63 MiB free, at least 64 (min_free_memory_bytes)")),
    ],
    ids=["paused", "hours", "no clock", "disk fault", "disk full", "heat", "throttled", "battery", "memory"],
)
def test_each_condition_hinders_and_says_why(worse: dict[str, object], expected: tuple[str, str]) -> None:
    assert found(replace(FINE, **worse)) == expected  # type: ignore[arg-type]  # each row has its own type


@pytest.mark.parametrize(
    ("fine", "given"),
    [
        ({"time": None}, {"hours": ()}),
        ({"temperature_c": 80.0}, {}),
        ({"temperature_c": 120.0}, {"max_temperature_c": None}),
        ({"throttled": 0x5}, {"decline_throttled": False}),
        ({"throttled": 0x8}, {}),
        ({"battery": 0.2}, {}),
        ({"battery": 0.01}, {"min_battery": 0}),
        ({"free_memory_bytes": 0}, {"min_free_memory_bytes": 0}),
        ({"free_memory_bytes": 64 * MIB}, {}),
    ],
    ids=[
        "no hours",
        "warm",
        "any heat",
        "weak supply",
        "soft limit",
        "battery",
        "any battery",
        "any",
        "enough",
    ],
)
def test_what_is_within_its_limits_does_not_hinder(fine: dict[str, object], given: dict[str, object]) -> None:
    assert found(replace(FINE, **fine), **given) is None  # type: ignore[arg-type]


def test_the_owners_wishes_are_told_before_what_was_measured() -> None:
    worst = Conditions(pause="for 1 h", disk_fault="full", temperature_c=99.0)
    assert found(worst) == ("paused", "paused by its owner for 1 h")
    assert found(replace(worst, pause="", time=TimeOfDay(9, 0))) == ("disk", "full")


def test_there_is_a_sentence_for_each_reason_that_no_task_is_to_blame_for() -> None:
    assert {reason.value for reason in DeclineReason} >= {"paused", "hours", "heat", "throttled", "battery"}


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "21:59", "12:00"]),
        ("08:30-18:00", ["08:30", "17:59"], ["08:29", "18:00", "00:00"]),
        ("00:00-24:00", ["00:00", "23:59"], []),
        ("18:00-24:00", ["18:00", "23:59"], ["00:00", "17:59"]),
        ("22:00-00:00", ["22:00", "23:59"], ["00:00"]),
    ],
)
def test_hours_may_reach_past_midnight_and_end_before_their_end(
    span: str, inside: list[str], outside: list[str]
) -> None:
    def at(text: str) -> TimeOfDay:
        return TimeOfDay(*map(int, text.split(":")))

    assert [is_within(span, at(text)) for text in inside] == [True] * len(inside)
    assert [is_within(span, at(text)) for text in outside] == [False] * len(outside)


@pytest.mark.parametrize("span", ["22-06", "22:00-25:00", "22:00", "2:00-3:00", "22:60-06:00", "08:00-08:00"])
def test_hours_that_are_none_are_refused(span: str) -> None:
    with pytest.raises(ValidationError, match="hours"):
        settings(hours=(span,))
