import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.coordinator.cohort import MAX_COHORT, needed, replacements, round_seed, select
from aggregator.run_settings import RunSettings

LIVE = [f"d{number:02}" for number in range(20)]


@pytest.mark.parametrize(
    ("settings", "invited", "target", "quorum"),
    [
        ({}, 20, 20, 10),
        ({"fraction": 0.25}, 5, 5, 3),
        ({"fraction": 0.01}, 1, 1, 1),
        ({"fraction": 0.01, "min_devices": 4}, 4, 4, 2),
        ({"fraction": 0.1, "quorum": 6}, 6, 6, 6),
        ({"target": 8}, 8, 8, 4),
        ({"target": 8, "over_selection": 1.3}, 11, 8, 4),
        ({"target": 8, "quorum": 8}, 8, 8, 8),
        ({"target": 50, "over_selection": 2.0}, 20, 20, 10),
    ],
)
def test_a_round_invites_what_its_settings_ask_for(
    settings: dict[str, object], invited: int, target: int, quorum: int
) -> None:
    selection = select(LIVE, RunSettings.model_validate(settings), 1, 0.1)
    assert (len(selection.cohort), selection.target, selection.quorum) == (invited, target, quorum)


@pytest.mark.parametrize(
    ("drop_out", "invited"),
    [(0.0, 10), (0.1, 13), (0.2, 15), (0.9, 16)],
    ids=["none", "some", "much", "most"],
)
def test_as_many_are_invited_as_the_drop_out_asks_for_within_bounds(drop_out: float, invited: int) -> None:
    settings = RunSettings(target=10, over_selection=1.6, min_over_selection=1.0)
    assert len(select(LIVE, settings, 1, drop_out).cohort) == invited
    least = RunSettings(target=10, over_selection=1.6, min_over_selection=1.4)
    assert len(select(LIVE, least, 1, drop_out).cohort) == max(14, invited)


def test_the_same_round_of_the_same_seed_selects_the_same() -> None:
    settings = RunSettings(seed=1, fraction=0.5)
    assert select(LIVE, settings, 1, 0.1) == select(LIVE[::-1], settings, 1, 0.1)
    assert replacements(LIVE, 3, settings, 1) == replacements(LIVE[::-1], 3, settings, 1)
    chosen = {select(LIVE, RunSettings(seed=seed, fraction=0.5), 1, 0.1).cohort for seed in range(5)}
    assert len(chosen) == 5
    assert len({select(LIVE, settings, number, 0.1).cohort for number in range(1, 6)}) == 5


def test_everybody_is_selected_as_often_as_anybody() -> None:
    settings = RunSettings(fraction=0.25)
    counts = dict.fromkeys(LIVE, 0)
    for number in range(1, 401):
        for name in select(LIVE, settings, number, 0.1).cohort:
            counts[name] += 1
    assert all(60 < count < 140 for count in counts.values())


def test_round_seeds_differ_and_fit_the_wire() -> None:
    seeds = {round_seed(seed, number) for seed in range(20) for number in range(1, 21)}
    assert len(seeds) == 400
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_replacements_come_from_the_pool_without_repeats() -> None:
    settings = RunSettings()
    assert replacements([], 3, settings, 1) == []
    assert replacements(LIVE, 0, settings, 1) == []
    assert sorted(replacements(LIVE, 99, settings, 1)) == LIVE
    assert len(set(replacements(LIVE, 5, settings, 1))) == 5


def test_a_fleet_larger_than_an_announcement_can_name_is_invited_in_part() -> None:
    live = [f"d{number:05}" for number in range(MAX_COHORT + 500)]
    selection = select(live, RunSettings(over_selection=2), 1, 0.1)
    assert len(selection.cohort) == selection.target == MAX_COHORT


@given(
    live=st.integers(1, 60),
    minimum=st.integers(1, 60),
    fraction=st.floats(0.01, 1),
    over=st.floats(1, 10),
    sizes=st.tuples(st.none() | st.integers(1, 60), st.none() | st.integers(1, 60)),
)
def test_any_selection_can_reach_its_quorum(
    live: int, minimum: int, fraction: float, over: float, sizes: tuple[int | None, int | None]
) -> None:
    target, quorum = sizes
    if target is not None and quorum is not None:
        target, quorum = max(target, quorum), min(target, quorum)
    settings = RunSettings(
        min_devices=minimum, fraction=fraction, over_selection=over, target=target, quorum=quorum
    )
    names = [f"d{number:02}" for number in range(live)]
    if live < needed(settings):
        return
    selection = select(names, settings, 1, 0.1)
    assert 1 <= selection.quorum <= selection.target <= len(selection.cohort) <= live
    assert quorum is None or selection.quorum == quorum
    assert set(selection.cohort) <= set(names)
    assert list(selection.cohort) == sorted(set(selection.cohort))
