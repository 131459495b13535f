import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.messages import RateSchedule
from edge_agent.runtimes.rates import rate_of_step

BASE = 0.25


@st.composite
def schedules(draw: st.DrawFn) -> RateSchedule:
    """A whole run in one training."""
    rounds = draw(st.integers(1, 30))
    return RateSchedule(
        shape=draw(st.sampled_from(["constant", "linear", "cosine"])),
        begin=0,
        end=rounds,
        rounds=rounds,
        warmup_rounds=draw(st.integers(0, rounds)),
        final_rate=draw(st.floats(0, 1)),
    )


def rates(schedule: RateSchedule | None, steps: int) -> list[float]:
    return [rate_of_step(BASE, schedule, step, steps) for step in range(steps)]


@given(schedules(), st.integers(1, 50))
def test_rates_are_above_nothing_and_never_above_the_learning_rate(
    schedule: RateSchedule, steps: int
) -> None:
    assert all(0 < rate <= BASE * (1 + 1e-12) for rate in rates(schedule, steps))


@given(schedules(), st.integers(1, 5))
def test_they_rise_in_the_warm_up_and_never_after_it(schedule: RateSchedule, steps_a_round: int) -> None:
    found = rates(schedule, steps_a_round * schedule.rounds)
    warm = steps_a_round * schedule.warmup_rounds
    assert found[:warm] == sorted(found[:warm])
    assert found[warm:] == sorted(found[warm:], reverse=True)


@given(schedules(), st.integers(1, 8))
def test_a_run_cut_into_rounds_has_the_rates_of_the_whole(schedule: RateSchedule, steps_a_round: int) -> None:
    whole = rates(schedule, steps_a_round * schedule.rounds)
    cut = [
        rate
        for begin in range(schedule.rounds)
        for rate in rates(schedule.model_copy(update={"begin": begin, "end": begin + 1}), steps_a_round)
    ]
    assert cut == pytest.approx(whole, rel=1e-9)


@given(schedules())
def test_devices_with_more_steps_end_their_round_nearly_where_others_do(schedule: RateSchedule) -> None:
    last = schedule.model_copy(update={"begin": schedule.rounds - 1})
    few, many = rates(last, 1000)[-1], rates(last, 4000)[-1]
    assert few == pytest.approx(many, abs=BASE * 0.005)


def test_without_a_schedule_every_step_has_the_learning_rate() -> None:
    assert rates(None, 3) == [BASE] * 3


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [0.9, 0.7, 0.5, 0.3]),
        ("cosine", [0.2 + 0.4 * (1 + math.cos(math.pi * way)) for way in (1 / 8, 3 / 8, 5 / 8, 7 / 8)]),
    ],
)
def test_six_rounds_of_one_step_as_computed_by_hand(shape: Any, last: list[float]) -> None:  # noqa: ANN401
    schedule = RateSchedule(shape=shape, begin=0, end=6, rounds=6, warmup_rounds=2, final_rate=0.2)
    assert rates(schedule, 6) == pytest.approx([BASE * part for part in (0.25, 0.75, *last)])


@pytest.mark.parametrize(
    "change",
    [{"begin": 1}, {"end": 7}, {"warmup_rounds": 7}, {"final_rate": 1.5}, {"shape": "square"}],
    ids=lambda change: next(iter(change)),
)
def test_what_is_no_part_of_a_run_is_refused(change: dict[str, Any]) -> None:
    fine = {"shape": "linear", "begin": 0, "end": 1, "rounds": 6}
    RateSchedule.model_validate(fine)
    with pytest.raises(ValidationError):
        RateSchedule.model_validate(fine | change)
