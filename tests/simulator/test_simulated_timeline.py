from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from aggregator.run_settings import RunSettings
from broker.messages import AgentState
from deploy.results.plots import new_figure, save_figure
from deploy.simulator.outcome import Round, rounds_of
from deploy.simulator.plot import SHOWN_ROUNDS, SLICES, around_the_slowest, draw, parts_of_the_fleet
from deploy.simulator.scenario import Troubles, fleet
from deploy.simulator.timeline import Doing, Timeline, doing
from deploy.simulator.world import World

PNG = b"\x89PNG"


def a_timeline() -> Timeline:
    timeline = Timeline()
    for what, now in ((Doing.AWAY, 0.0), (Doing.IDLE, 2.0), (Doing.IDLE, 3.0), (Doing.TRAINS, 5.0)):
        timeline.note("a", what, now)
    return timeline


def a_round(number: int, seconds: float) -> Round:
    return Round(number, 100.0 * number, 100.0 * number + seconds, 2, 2, 1, made_a_model=True)


def a_world(devices: int = 12, **about: float) -> World:
    settings = RunSettings(
        rounds=3, target=6, quorum=4, deadline_s=100.0, federated_evaluation=False, abandoned_limit=1000
    )
    scenario = fleet(devices, settings, Troubles(), training_s=20.0, parameters=1000, sites=2, **about)
    return World(replace(scenario, uploads_at_a_time=1), traced=False)


def played(world: World) -> tuple[Timeline, list[Round]]:
    timeline = world.watch()
    world.run_in_trouble(lambda: None)
    return timeline, rounds_of(world)


def test_spans_are_cut_to_the_time_asked_for() -> None:
    spans = [*a_timeline().spans("a", 1.0, 6.0)]
    assert spans == [(Doing.AWAY, 1.0, 2.0), (Doing.IDLE, 2.0, 5.0), (Doing.TRAINS, 5.0, 6.0)]
    assert [*a_timeline().spans("a", 2.0, 4.0)] == [(Doing.IDLE, 2.0, 4.0)]
    assert not [*a_timeline().spans("b", 0.0, 9.0)]


@pytest.mark.parametrize(
    ("state", "connected", "sending", "what"),
    [
        (None, False, False, Doing.AWAY),
        (AgentState.IDLE, False, False, Doing.AWAY),
        (AgentState.IDLE, True, False, Doing.IDLE),
        (AgentState.TRAINING, False, False, Doing.TRAINS),
        (AgentState.UPLOADING, True, False, Doing.WAITS),
        (AgentState.UPLOADING, True, True, Doing.UPLOADS),
    ],
    ids=["no agent", "cut off", "idle", "trains cut off", "no grant yet", "granted"],
)
def test_what_a_device_does_is_told_by_its_agent(
    state: AgentState | None, *, connected: bool, sending: bool, what: Doing
) -> None:
    assert doing(state, connected=connected, sending=sending) is what


def test_parts_of_the_fleet_are_averages_that_add_up_to_all_who_are_known() -> None:
    timeline = a_timeline()
    timeline.note("b", Doing.TRAINS, 0.0)
    parts = parts_of_the_fleet(timeline, ["a", "b"], 0.0, 10.0)
    assert all(
        sum(counts[place] for counts in parts.values()) == pytest.approx(2.0) for place in range(SLICES)
    )
    assert sum(parts[Doing.IDLE]) / SLICES == pytest.approx(0.3)
    assert parts[Doing.TRAINS][0] == pytest.approx(1.0)
    assert parts[Doing.TRAINS][-1] == pytest.approx(2.0)


@pytest.mark.parametrize(("slowest", "first"), [(1, 1), (10, 7), (20, 15)], ids=str)
def test_the_rounds_shown_are_those_around_the_slowest(slowest: int, first: int) -> None:
    shown = around_the_slowest([a_round(n, 90.0 if n == slowest else 50.0) for n in range(1, 21)])
    assert [one.number for one in shown] == [*range(first, first + SHOWN_ROUNDS)]


def test_a_run_shows_what_its_devices_did_in_order() -> None:
    timeline, rounds = played(a_world())
    first = rounds[0]
    seen = {name: [*timeline.spans(name, first.opened_s, first.closed_s)] for name in ("pi-0", "pi-1")}
    assert {what for spans in seen.values() for what, _, _ in spans} >= {Doing.DOWNLOADS, Doing.TRAINS}
    everything = [
        what for n in range(12) for what, _, _ in timeline.spans(f"pi-{n}", 0.0, rounds[-1].closed_s)
    ]
    assert {Doing.WAITS, Doing.UPLOADS, Doing.IDLE} <= {*everything}
    for what, before in ((Doing.TRAINS, Doing.DOWNLOADS), (Doing.UPLOADS, Doing.WAITS)):
        assert any(pair == (before, what) for pair in pairwise(everything))


def test_devices_have_power_for_a_part_of_the_day_one_site_after_the_other() -> None:
    world = a_world(awake=0.5, day_s=400.0)
    timeline = world.watch()
    world.begin()
    world.until(1200.0)

    def away(name: str, begin: float, end: float) -> float:
        return sum(to - at for what, at, to in timeline.spans(name, begin, end) if what is Doing.AWAY)

    for site, name in ((0, "pi-0"), (1, "pi-1")):
        dark = [away(name, begin, begin + 200.0) for begin in (400.0, 600.0, 800.0, 1000.0)]
        assert min(dark[1 - site :: 2]) == pytest.approx(200.0)
        assert max(dark[site::2]) < 60.0


@pytest.mark.parametrize("devices", [12, 60], ids=["a row a device", "parts of the fleet"])
def test_a_simulation_is_drawn(devices: int, tmp_path: Path) -> None:
    world = a_world(devices)
    timeline, rounds = played(world)
    figure, path = new_figure(8, 6), tmp_path / "fleet.png"
    draw(figure, timeline, [*world.devices], rounds)
    save_figure(figure, path)
    assert path.read_bytes().startswith(PNG)
    activity, times, updates = figure.axes
    assert [len(axes.patches) for axes in (times, updates)] == [len(rounds)] * 2
    assert (len(activity.get_yticklabels()) == devices) == (devices == 12)
