import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.run_settings import RunSettings
from deploy.command.app import run
from deploy.simulator.outcome import look_at
from deploy.simulator.scenario import Scenario, Troubles, fleet
from deploy.simulator.world import World
from tests.docs.pages import all_blocks, commands

ROUNDS = 3
SMALL = (
    "--devices",
    "12",
    "--target",
    "6",
    "--rounds",
    str(ROUNDS),
    "--training-s",
    "20",
    "--deadline-s",
    "90",
)


def simulate(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["midge", "simulate", *SMALL, *arguments])
    try:
        run()
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def a_fleet(troubles: Troubles, **settings: object) -> Scenario:
    chosen = {
        "rounds": ROUNDS,
        "target": 8,
        "quorum": 8,
        "deadline_s": 100.0,
        "abandoned_limit": 100,
    } | settings
    return fleet(16, RunSettings.model_validate(chosen), troubles, training_s=20.0, parameters=1000, sites=2)


def outcome_of(scenario: Scenario) -> Any:  # noqa: ANN401 - a test reads what it needs
    world = World(scenario, traced=False)
    world.run_in_trouble(lambda: None)
    return look_at(world)


def test_a_fleet_without_trouble_completes_all_rounds_and_wastes_nothing() -> None:
    outcome = outcome_of(a_fleet(Troubles()))
    assert (outcome.rounds, outcome.quorum, outcome.target) == (ROUNDS, ROUNDS, ROUNDS)
    assert outcome.wasted_s < 0.01 * outcome.trained_s
    assert 15 < outcome.median_s <= outcome.p95_s < 60
    assert outcome.bytes_in > ROUNDS * 8 * 4000


def test_drop_out_wastes_training_and_over_selection_wastes_more() -> None:
    calm, rough = a_fleet(Troubles()), a_fleet(Troubles(dropout=0.3))
    over = replace(calm, settings=calm.settings.model_copy(update={"over_selection": 2.0}))
    wasted = [one.wasted_s / one.trained_s for one in (outcome_of(calm), outcome_of(rough), outcome_of(over))]
    assert wasted[0] < wasted[1] < wasted[2]


def test_sites_that_fail_cost_training_and_time_but_no_round_its_quorum() -> None:
    calm, outages = (
        outcome_of(a_fleet(Troubles())),
        outcome_of(a_fleet(Troubles(site_away_s=30.0, site_down_s=(20.0, 40.0)))),
    )
    assert outages.wasted_s > calm.wasted_s
    assert outages.p95_s > calm.p95_s
    assert outages.quorum == ROUNDS


def test_the_command_prints_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("reached their quorum" in line and "100.00%" in line for line in lines)


def test_the_same_seed_gives_the_same_and_another_one_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in ("1", "1", "2"):
        assert simulate(monkeypatch, "--json", "--seed", seed) == 0
    one, again, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert one == again != other


def test_a_picture_is_written_beside_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    picture = tmp_path / "fleet.png"
    assert (
        simulate(monkeypatch, "--plot", str(picture), "--awake", "0.5", "--day-s", "600", "--sites", "2") == 0
    )
    assert "reached their quorum" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_told_before_the_simulation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert simulate(monkeypatch, "--plot", str(tmp_path / "absent/fleet.png")) != 0
    captured = capsys.readouterr()
    assert "absent" in captured.err
    assert not captured.out


def test_the_page_shows_what_its_command_prints_and_reads_it_rightly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [pair for block in all_blocks("console") for pair in commands(block)]
    command, shown = next(one for one in found if "midge simulate" in one[0] and "--task" not in one[0])
    tables = list[dict[str, str]]()
    for line in (command, command.replace("--over-selection 1.3", "--over-selection 1.8")):
        monkeypatch.setattr(sys, "argv", line.split(" --plot")[0].split())
        with pytest.raises(SystemExit) as left:
            run()
        assert not left.value.code
        tables.append(rows_of(capsys.readouterr().out))
    assert rows_of(shown).keys() == tables[0].keys()
    assert part(tables[0], "reached their target") < part(tables[1], "reached their target")
    assert part(tables[0], "of it for nothing") < part(tables[1], "of it for nothing")


def rows_of(table: str) -> dict[str, str]:
    rows = (line.split("│") for line in table.splitlines() if "│" in line)
    return {row[1].strip(): row[2].strip() for row in rows}


def part(rows: dict[str, str], name: str) -> float:
    return float(rows[name].rstrip("%"))


def test_settings_that_contradict_each_other_are_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(monkeypatch, "--quorum", "7") == 78
    assert "quorum 7 is above target 6" in capsys.readouterr().err
