import pytest

from aggregator.coordinator import events as on
from aggregator.watch.attendance import Attendance
from tests.aggregator.coordinator.world import LOST_AFTER_S, World


class Door:
    """A fleet, and who was seen to come and go."""

    def __init__(self) -> None:
        self.world = World()
        self.attendance = Attendance(self.world.core.fleet)
        self.world.tell(on.Connected())

    def look(self) -> list[tuple[str, str | None, str]]:
        seen = self.attendance.look(self.world.now, 1000.0)
        return [(told.kind.value, told.device, told.reason) for told in seen]


def test_each_is_told_once_to_have_joined() -> None:
    door = Door()
    door.world.born("a", "b")
    assert door.look() == [("joined", "a", ""), ("joined", "b", "")]
    door.world.beat("a", "b")
    assert door.look() == []


@pytest.mark.parametrize("how", ["will", "silence"])
def test_who_is_lost_is_told_with_the_reason_and_who_is_back(how: str) -> None:
    door = Door()
    door.world.born("a", "b")
    door.look()
    if how == "will":
        door.world.died("a")
    else:
        door.world.live(LOST_AFTER_S + 1, "b")
    reason = "its connection ended" if how == "will" else f"silent for {LOST_AFTER_S + 1:.0f} s"
    assert door.look() == [("lost", "a", reason)]
    assert door.look() == []
    door.world.born("a", life=2)
    assert door.look() == [("back", "a", "")]


def test_what_the_broker_had_kept_is_no_news() -> None:
    door = Door()
    door.world.born("a")
    door.attendance.was_there("a", online=True)
    door.world.died("b", retained=True)
    door.attendance.was_there("b", online=False)
    assert door.look() == []
    door.world.died("a")
    door.world.born("b")
    assert door.look() == [("lost", "a", "its connection ended"), ("back", "b", "")]


def test_who_was_there_when_the_last_process_ended_is_lost_if_it_does_not_come_back() -> None:
    door = Door()
    door.world.begin_training("a", "b")
    door.world.restart()
    door.attendance = Attendance(door.world.core.fleet)
    door.world.tell(on.Connected())
    door.world.born("a")
    assert door.look() == []
    door.world.live(LOST_AFTER_S + 1, "a")
    assert door.look() == [("lost", "b", "its connection ended")]


def test_our_own_cut_is_no_loss_of_theirs() -> None:
    door = Door()
    door.world.born("a")
    door.look()
    door.world.tell(on.Disconnected())
    door.world.wait(10 * LOST_AFTER_S)
    assert door.look() == []
    door.world.tell(on.Connected())
    assert door.look() == []


def test_two_machines_with_one_id_are_told_once() -> None:
    door = Door()
    door.world.born("a")
    door.look()
    door.world.live(LOST_AFTER_S, "a")
    for _ in range(2):
        door.world.beat("a", life=2)
    ((kind, device, _),) = door.look()
    assert (kind, device) == ("conflict", "a")
    assert door.look() == []


def test_a_device_that_is_known_no_more_is_not_lost_and_joins_when_it_is_heard_again() -> None:
    door = Door()
    door.world.born("a")
    door.look()
    door.world.tell(on.ExcludeDevice("a", "stolen"))
    assert door.look() == []
    door.world.born("a")
    assert door.look() == [("joined", "a", "")]
