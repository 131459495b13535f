import pytest

from aggregator.coordinator import effects as do
from aggregator.coordinator import events as on
from aggregator.coordinator.phases import Decision, Phase
from aggregator.records import Decided
from tests.aggregator.coordinator.world import RUN, World, offer


def test_an_excluded_device_is_known_no_more() -> None:
    world = World()
    world.tell(on.Connected())
    world.born("a", "b")
    assert world.tell(on.ExcludeDevice("a", "stolen")) == []
    assert set(world.core.fleet.devices) == {"b"}


def test_excluding_a_device_that_nobody_knows_does_no_harm() -> None:
    world = World()
    assert world.tell(on.ExcludeDevice("nobody", "")) == []


def test_a_round_does_not_wait_for_an_excluded_device() -> None:
    world = World(target=2, quorum=1)
    world.begin_training("a", "b")
    world.upload("a")
    world.tell(on.ExcludeDevice("b", "stolen"))
    assert world.noted(Decided)[-1] == Decided(RUN, 1, "b", Decision.EXCLUDES, "stolen")
    assert world.phase() is Phase.AGGREGATING


def test_what_an_excluded_device_delivered_before_counts() -> None:
    world = World(target=2, quorum=1)
    world.begin_training("a", "b")
    world.upload("b")
    world.tell(on.ExcludeDevice("b", "stolen"))
    world.upload("a")
    (aggregate,) = world.all(do.Aggregate)
    assert [device for device, _ in aggregate.updates] == ["a", "b"]


def test_an_upload_that_was_being_verified_counts_no_more() -> None:
    world = World(target=2, quorum=1)
    world.begin_training("a", "b")
    world.tell(on.ExcludeDevice("b", "stolen"))
    world.tell(on.UpdateReceived("b", offer("b")))
    assert world.rejected() == "this device is not in the cohort"


def test_no_late_update_of_an_excluded_device_is_carried() -> None:
    world = World(target=2, quorum=1, late="carry", rounds=3)
    world.begin_training("a", "b")
    world.upload("a")
    world.died("b")
    assert world.phase() is Phase.AGGREGATING
    world.tell(on.ExcludeDevice("b", "stolen"))
    world.tell(on.UpdateReceived("b", offer("b")))
    assert world.run.carried == []


@pytest.mark.parametrize("excluded", ["b", "a"])
def test_another_device_takes_the_place_of_an_excluded_one(excluded: str) -> None:
    world = World(target=2, quorum=2, fraction=1.0)
    world.begin_training("a", "b")
    world.born("c")
    world.tell(on.ExcludeDevice(excluded, "stolen"))
    assert world.invited() == ["c"]
