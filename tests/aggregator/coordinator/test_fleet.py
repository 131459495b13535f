import pytest

from aggregator.coordinator import events as on
from aggregator.coordinator.fleet import MAX_DEVICES, Fleet
from aggregator.coordinator.phases import Phase
from tests.aggregator.coordinator.world import (
    HEARTBEAT_S,
    LOST_AFTER_S,
    World,
    birth,
    connection,
    death,
    heartbeat,
)


@pytest.fixture
def fleet() -> Fleet:
    """Device a was born at 100 s."""
    made = Fleet(HEARTBEAT_S)
    made.connected(100.0)
    made.presence("a", birth("a"), 100.0, retained=False)
    return made


def test_a_device_lives_for_three_heartbeats_after_it_was_heard(fleet: Fleet) -> None:
    assert fleet.alive("a", 114.9)
    assert not fleet.alive("a", 115.0)
    fleet.heartbeat("a", heartbeat("a"), 114.0)
    assert fleet.alive("a", 128.9)
    assert not fleet.alive("a", 129.0)
    assert not fleet.alive("b", 100.0)


def test_the_next_loss_is_of_who_was_silent_longest(fleet: Fleet) -> None:
    fleet.presence("b", birth("b"), 103.0, retained=False)
    assert fleet.next_loss({"a", "b"}, 104.0) == 115.0
    assert fleet.next_loss({"b"}, 104.0) == 118.0
    assert fleet.next_loss({"a", "b"}, 115.0) == 118.0
    assert fleet.next_loss({"a", "b"}, 118.0) is None


def test_a_death_counts_at_once_when_it_names_the_connection_of_the_birth(fleet: Fleet) -> None:
    fleet.presence("a", death("a"), 101.0, retained=False)
    assert not fleet.alive("a", 101.0)


def test_the_late_will_of_an_older_connection_kills_nobody(fleet: Fleet) -> None:
    fleet.presence("a", birth("a", life=2), 101.0, retained=False)
    fleet.presence("a", death("a", life=1), 102.0, retained=False)
    assert fleet.alive("a", 102.0)


def test_a_dead_device_that_is_heard_lives_again(fleet: Fleet) -> None:
    fleet.presence("a", death("a"), 101.0, retained=False)
    fleet.heartbeat("a", heartbeat("a"), 102.0)
    assert fleet.alive("a", 102.0)


def test_a_dead_device_may_be_heard_on_a_new_connection(fleet: Fleet) -> None:
    fleet.presence("a", death("a"), 101.0, retained=False)
    fleet.heartbeat("a", heartbeat("a", life=2), 102.0)
    assert fleet.alive("a", 102.0)
    assert fleet.devices["a"].presence.connection == connection("a", 2)


def test_a_silent_device_whose_birth_got_lost_is_heard_on_its_new_connection(fleet: Fleet) -> None:
    fleet.heartbeat("a", heartbeat("a", life=2), 120.0)
    assert fleet.alive("a", 120.0)
    fleet.heartbeat("a", heartbeat("a", life=2), 125.0)
    assert fleet.alive("a", 139.0)
    assert not fleet.devices["a"].conflict


def test_two_machines_with_one_id_are_reported_and_the_first_counts(fleet: Fleet) -> None:
    for now in (104.0, 108.0, 112.0):
        fleet.heartbeat("a", heartbeat("a"), now)
        fleet.heartbeat("a", heartbeat("a", life=2), now + 1)
    assert fleet.devices["a"].conflict
    assert fleet.devices["a"].presence.connection == connection("a", 1)
    assert not fleet.alive("a", 127.0)


def test_heartbeats_that_cross_a_birth_are_no_conflict(fleet: Fleet) -> None:
    fleet.presence("a", birth("a", life=2), 105.0, retained=False)
    fleet.heartbeat("a", heartbeat("a", life=1), 106.0)
    assert not fleet.devices["a"].conflict


def test_more_devices_than_the_limit_are_not_remembered() -> None:
    fleet = Fleet(HEARTBEAT_S)
    for number in range(MAX_DEVICES + 5):
        fleet.heartbeat(f"d{number}", heartbeat("a"), 1.0)
    fleet.presence("late", birth("a"), 1.0, retained=False)
    assert len(fleet.devices) == MAX_DEVICES
    fleet.presence("d1", birth("a"), 2.0, retained=False)
    assert fleet.devices["d1"].presence.examples == 100


# -- silence that is ours --------------------------------------------------------------------------


def test_silence_does_not_count_while_we_are_cut_off(fleet: Fleet) -> None:
    fleet.disconnected(110.0)
    assert fleet.alive("a", 1000.0)
    assert fleet.next_loss({"a"}, 1000.0) is None
    fleet.connected(1000.0)
    assert fleet.alive("a", 1014.9)
    assert fleet.next_loss({"a"}, 1000.0) == 1015.0
    assert not fleet.alive("a", 1015.0)


def test_who_was_lost_before_we_were_cut_off_stays_lost(fleet: Fleet) -> None:
    fleet.disconnected(116.0)
    fleet.connected(200.0)
    assert not fleet.alive("a", 200.0)


def test_a_second_disconnect_does_not_move_the_first(fleet: Fleet) -> None:
    fleet.disconnected(110.0)
    fleet.disconnected(900.0)
    assert fleet.alive("a", 900.0)


def test_a_retained_death_leaves_time_for_the_birth_behind_it(fleet: Fleet) -> None:
    fleet.disconnected(110.0)
    fleet.connected(200.0)
    fleet.presence("a", death("a"), 200.0, retained=True)
    assert fleet.alive("a", 214.9)
    assert not fleet.alive("a", 215.0)


def test_a_death_that_is_not_retained_counts_at_once_after_our_reconnect(fleet: Fleet) -> None:
    fleet.disconnected(110.0)
    fleet.connected(200.0)
    fleet.presence("a", death("a"), 201.0, retained=False)
    assert not fleet.alive("a", 201.0)


def test_retained_deaths_after_our_own_reconnect_do_not_close_a_round_early() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.tell(on.Disconnected())
    world.wait(40.0)
    world.tell(on.Connected())
    world.died("b", retained=True)
    assert world.phase() is Phase.TRAINING
    world.born("b", life=2)
    world.live(20.0, "b", life=2)
    assert world.phase() is Phase.TRAINING


def test_a_round_does_not_close_for_silence_while_we_are_cut_off() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.tell(on.Disconnected())
    world.wait(90.0)
    assert world.phase() is Phase.TRAINING
    world.wait(10.0)
    assert world.phase() is Phase.AGGREGATING, "the deadline is a deadline"


@pytest.mark.parametrize("asleep_s", [26.0, 40.0, 90.0])
def test_silence_does_not_count_while_our_own_loop_slept(asleep_s: float) -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.now += asleep_s
    world.tell(on.Tick())
    assert world.phase() is Phase.TRAINING
    world.beat("b")
    world.upload("b")
    assert world.phase() is Phase.AGGREGATING


def test_who_stays_silent_after_our_loop_slept_is_lost() -> None:
    world = World()
    world.begin_training("a", "b")
    world.upload("a")
    world.now += 30.0
    world.tell(on.Tick())
    world.wait(LOST_AFTER_S)
    assert world.phase() is Phase.AGGREGATING
