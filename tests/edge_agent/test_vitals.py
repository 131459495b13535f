import os
from pathlib import Path

import pytest

from edge_agent.events import VitalsMeasured
from edge_agent.vitals import available_memory_bytes, battery, machine, measure, throttled, total_memory_bytes


def test_the_memory_of_all_processes_the_hottest_zone_and_the_battery_are_told(tmp_path: Path) -> None:
    for pid, pages in ((1, 10), (2, 5)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "statm").write_text(f"999 {pages} 3 1 0 8 0\n")
    for zone, milli in enumerate((41000, 63500)):
        folder = tmp_path / f"class/thermal/thermal_zone{zone}"
        folder.mkdir(parents=True)
        (folder / "temp").write_text(f"{milli}\n")
    supply(tmp_path, "hat", type="Battery", status="Discharging", capacity=80)
    page = os.sysconf("SC_PAGE_SIZE")
    assert measure((1, 2, 3), tmp_path, tmp_path) == VitalsMeasured(15 * page, 63.5, 0.8)


@pytest.mark.parametrize("content", ["", "hot\n"])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "statm").write_text(content)
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text(content)
    assert measure((1,), tmp_path, tmp_path) == VitalsMeasured(0, None)


def test_this_machine_can_be_described() -> None:
    assert os.uname().machine in machine()
    assert total_memory_bytes() > measure((os.getpid(),)).memory_bytes > 1 << 20
    available = available_memory_bytes()
    assert available is not None
    assert 1 << 20 < available <= total_memory_bytes()


@pytest.mark.parametrize("content", ["", "MemAvailable:\n", "MemAvailable: much kB\n"])
def test_memory_that_the_kernel_does_not_tell_is_unknown(tmp_path: Path, content: str) -> None:
    (tmp_path / "meminfo").write_text(content)
    assert available_memory_bytes(tmp_path) is None


@pytest.mark.parametrize(
    ("place", "content", "expected"),
    [
        ("soc/soc:firmware", "50005\n", 0x50005),
        ("soc@107c000000/soc@107c000000:firmware", "0\n", 0),
        ("soc/soc:firmware", "broken\n", None),
        ("pci0000:00/firmware", "5\n", None),
    ],
)
def test_the_firmwares_flags_are_read_where_there_are_any(
    tmp_path: Path, place: str, content: str, expected: int | None
) -> None:
    folder = tmp_path / "devices/platform" / place
    folder.mkdir(parents=True)
    (folder / "get_throttled").write_text(content)
    assert throttled(tmp_path) == expected


def supply(folder: Path, name: str, **files: object) -> None:
    place = folder / "class/power_supply" / name
    place.mkdir(parents=True)
    for key, value in files.items():
        (place / key).write_text(f"{value}\n")


def test_the_emptiest_battery_that_is_drawn_on_is_told(tmp_path: Path) -> None:
    assert battery(tmp_path) is None
    supply(tmp_path, "ac", type="Mains", online=0)
    supply(tmp_path, "mouse", type="Battery", scope="Device", status="Discharging", capacity=3)
    supply(tmp_path, "charged", type="Battery", status="Charging", capacity=4)
    supply(tmp_path, "odd", type="Battery", status="Discharging")
    assert battery(tmp_path) is None
    supply(tmp_path, "hat", type="Battery", status="Discharging", capacity=40)
    supply(tmp_path, "silent", type="Battery", capacity=35)
    assert battery(tmp_path) == 0.35


@pytest.mark.parametrize(("capacity", "told"), [(103, 1.0), (-1, 0.0)])
def test_a_battery_that_says_more_than_can_be_is_full_or_empty(
    tmp_path: Path, capacity: int, told: float
) -> None:
    supply(tmp_path, "hat", type="Battery", status="Discharging", capacity=capacity)
    assert battery(tmp_path) == told
