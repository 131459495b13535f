import errno
from pathlib import Path

import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.deeds import Deeds
from aggregator.records import Incident
from aggregator.room import EVERY_S, Room, has_room
from tests.aggregator.coordinator.world import World

FULL = OSError(errno.ENOSPC, "No space left on device")


class Disk:
    """A run in training, and effects that find room or do not."""

    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.world.begin_training("a", "b")
        self.full = True
        self.noted: list[Incident] = []
        self.deeds = Deeds({do.Persist: self.write}, self.filled)
        self.room = Room(folder, self.world.core, self.deeds, self.tell, self.noted.append)

    def tell(self, event: on.Event) -> None:
        self.world.tell(event)

    def write(self, _: do.Persist) -> None:
        if self.full:
            raise FULL

    def filled(self, error: Exception) -> None:
        self.room.filled(error, 0.0)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_a_write_without_room_pauses_the_run_and_is_done_when_there_is_room(disk: Disk) -> None:
    disk.deeds.carry_out([do.Persist((), b"")])
    assert "No space left on device" in (disk.world.paused() or "")
    assert disk.room.lacking == disk.world.paused()
    disk.full = False
    disk.room.renew(EVERY_S / 2)
    assert disk.deeds.holding, "it is not looked for all the time"
    disk.room.renew(EVERY_S)
    assert (disk.deeds.holding, disk.world.paused(), disk.room.lacking) == (False, None, "")
    assert ["No space left" in incident.detail for incident in disk.noted] == [True]


def test_a_disk_that_stays_full_stays_a_pause(disk: Disk) -> None:
    disk.deeds.carry_out([do.Persist((), b"")])
    disk.room.look(EVERY_S)
    assert disk.deeds.holding
    assert disk.world.paused()
    assert disk.noted == []


def test_a_reserve_counts_for_room(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_room(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []
    assert not has_room(tmp_path, 1 << 60)
    assert not has_room(tmp_path / "missing", 1)
    disk.room.filled(FULL, 0.0)
    monkeypatch.setattr("aggregator.room.RESERVE_BYTES", 1 << 60)
    disk.room.look(EVERY_S)
    assert disk.world.paused()


def test_a_run_that_an_operator_resumed_lacks_nothing(disk: Disk) -> None:
    disk.room.filled(FULL, 0.0)
    disk.tell(on.ResumeRun())
    disk.room.look(EVERY_S)
    assert (disk.room.lacking, disk.noted) == ("", [])
