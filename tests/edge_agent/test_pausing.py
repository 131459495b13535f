import argparse
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.main import _duration, main
from edge_agent.pausing import (
    NAME,
    Clock,
    Pause,
    read_clock,
    read_duration,
    read_pause,
    remove_pause,
    told_duration,
    write_pause,
)
from edge_agent.store import Store
from edge_agent.surroundings import local_time
from host.errors import StorageError
from host.exits import ExitCode
from tests.edge_agent.test_main import settings_file

NOW = Clock("boot-1", 1000.0, 1_800_000_000.0)
HOUR_S = 3600.0


def later(seconds: float, **changes: object) -> Clock:
    assert NOW.unix_s is not None
    clock = replace(NOW, boot_s=NOW.boot_s + seconds, unix_s=NOW.unix_s + seconds)
    return replace(clock, **changes)  # type: ignore[arg-type]  # each has its own type


def paused(folder: Path, now: Clock) -> bool:
    pause = read_pause(folder)
    return pause is not None and pause.told(now) != ""


def test_a_pause_ends_when_its_time_is_over(tmp_path: Path) -> None:
    assert not paused(tmp_path, NOW)
    write_pause(tmp_path, HOUR_S, NOW)
    assert paused(tmp_path, later(HOUR_S - 1))
    assert not paused(tmp_path, later(HOUR_S))


def test_a_pause_without_end_lasts_until_it_is_resumed(tmp_path: Path) -> None:
    write_pause(tmp_path, None, NOW)
    assert paused(tmp_path, later(1e9, boot="boot-9"))
    assert remove_pause(tmp_path)
    assert not paused(tmp_path, NOW)
    assert not remove_pause(tmp_path)


def test_a_clock_that_is_set_in_the_middle_of_a_pause_changes_nothing(tmp_path: Path) -> None:
    write_pause(tmp_path, HOUR_S, replace(NOW, unix_s=None))
    assert paused(tmp_path, later(HOUR_S - 1))
    write_pause(tmp_path, HOUR_S, NOW)
    assert paused(tmp_path, later(HOUR_S - 1, unix_s=2e9))
    assert not paused(tmp_path, later(HOUR_S, unix_s=None))


def test_after_another_boot_the_clock_decides(tmp_path: Path) -> None:
    write_pause(tmp_path, HOUR_S, NOW)
    assert paused(tmp_path, later(HOUR_S - 1, boot="boot-2", boot_s=7 * HOUR_S))
    assert not paused(tmp_path, later(HOUR_S, boot="boot-2", boot_s=3.0))


@pytest.mark.parametrize("then", [NOW.unix_s, None], ids=["set", "not set"])
def test_after_another_boot_without_a_clock_the_pause_begins_anew(tmp_path: Path, then: float | None) -> None:
    write_pause(tmp_path, HOUR_S, replace(NOW, unix_s=then))
    assert paused(tmp_path, Clock("boot-2", HOUR_S - 1, None))
    assert not paused(tmp_path, Clock("boot-2", HOUR_S, None))


@given(length=st.integers(0, 200))
def test_a_pause_cut_short_by_a_power_cut_stands_until_it_is_resumed(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    folder = tmp_path_factory.mktemp("state")
    write_pause(folder, HOUR_S, NOW)
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(whole[:length])
    expected = (
        Pause() if length < len(whole) else Pause(for_s=HOUR_S, boot="boot-1", boot_s=1000.0, unix_s=1.8e9)
    )
    assert read_pause(folder) == expected
    assert remove_pause(folder)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="see state_folder"):
        write_pause(tmp_path / "none", None, NOW)


@pytest.mark.parametrize(
    ("text", "seconds", "told"),
    [
        ("90s", 90, "2 min"),
        ("45s", 45, "45 s"),
        ("45m", 2700, "45 min"),
        ("2h", 7200, "2 h"),
        ("150m", 9000, "2 h 30 min"),
        ("1d", 86400, "24 h"),
    ],
)
def test_durations_are_read_and_told(text: str, seconds: float, told: str) -> None:
    assert read_duration(text) == seconds
    assert told_duration(seconds) == told


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "0s", "1.5h", "2 h", "367d", "9999999999d"])
def test_what_is_no_duration_is_a_usage_error(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write it as 90s, 45m, 2h or 1d"):
        _duration(text)


def test_this_machines_clocks_can_be_read() -> None:
    first, second = read_clock(), read_clock()
    assert first.boot == second.boot != ""
    assert 0 < first.boot_s <= second.boot_s
    assert local_time(first) is not None
    assert local_time(replace(first, unix_s=None)) is None


def test_the_owner_pauses_asks_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(settings_file(tmp_path)), "--set", "min_free_memory_bytes=0"]
    store = Store(tmp_path / "state")
    steps = [
        (["status"], ["pi-1 runs", "available", "no update waits to be delivered"]),
        (["pause", "--for", "2h"], ["pi-1 is paused for 2 h"]),
        (
            ["status"],
            [
                "pi-1 runs",
                "not available, paused: paused by its owner for 2 h",
                "paused for another 2 h",
                "no update waits to be delivered",
            ],
        ),
        (["pause"], ["pi-1 is paused until midge-agent resume"]),
        (["resume"], ["pi-1 goes on"]),
        (["resume"], ["pi-1 was not paused"]),
    ]
    for arguments, expected in steps:
        assert main([*arguments, *config]) == ExitCode.OK
        assert capsys.readouterr().out.splitlines() == expected
    store.close()
    (tmp_path / "state/state.json").write_text("{")
    assert main(["status", *config]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pi-1 does not run"
    assert lines[-1].endswith("state.json is damaged: the agent puts it aside when it starts")


def test_a_pause_without_an_end_has_no_seconds_left() -> None:
    assert Pause().left_s(Clock("boot", 10.0, None)) is None


def test_a_pause_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(StorageError, match="cannot be removed"):
        remove_pause(tmp_path)
