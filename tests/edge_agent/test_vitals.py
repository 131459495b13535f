import os
from pathlib import Path

import pytest

from edge_agent.events import VitalsMeasured
from edge_agent.vitals import machine, measure, total_memory_bytes


def test_the_memory_of_all_processes_and_the_hottest_zone_are_told(tmp_path: Path) -> None:
    for pid, pages in ((1, 10), (2, 5)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "statm").write_text(f"999 {pages} 3 1 0 8 0\n")
    for zone, milli in enumerate((41000, 63500)):
        (tmp_path / f"thermal_zone{zone}").mkdir()
        (tmp_path / f"thermal_zone{zone}" / "temp").write_text(f"{milli}\n")
    page = os.sysconf("SC_PAGE_SIZE")
    assert measure((1, 2, 3), tmp_path, tmp_path) == VitalsMeasured(15 * page, 63.5)


@pytest.mark.parametrize("content", ["", "hot\n"])
def test_what_cannot_be_read_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "statm").write_text(content)
    (tmp_path / "thermal_zone0").mkdir()
    (tmp_path / "thermal_zone0" / "temp").write_text(content)
    assert measure((1,), tmp_path, tmp_path) == VitalsMeasured(0, None)


def test_this_machine_can_be_described() -> None:
    assert os.uname().machine in machine()
    assert total_memory_bytes() > measure((os.getpid(),)).memory_bytes > 1 << 20
