from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator import exclusions
from aggregator.coordinator.events import Event, ExcludeDevice
from aggregator.exclusions import Exclusions
from aggregator.ledger import Ledger
from broker.events import Received
from broker.topics import HEARTBEAT, PRESENCE
from host.errors import DataError


class Desk:
    """Exclusions on a ledger; `begin` does what the next process does."""

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)
        self.told: list[Event] = []
        self.cleared: list[str] = []
        self.asked: list[str] = []
        self.begin()

    def begin(self) -> None:
        self.exclusions = Exclusions(
            self.ledger,
            self.told.append,
            self.cleared.append,
            self.asked.append,
            self.ledger.forget_device_key,
        )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "ledger.sqlite")
    yield made
    made.ledger.close()


def test_an_excluded_device_stays_excluded_over_a_restart(desk: Desk) -> None:
    assert "pi-1 is excluded" in desk.exclusions.exclude("pi-1", "stolen")
    assert desk.cleared == ["pi-1"]
    desk.told.clear()
    desk.begin()
    desk.exclusions.restored()
    assert "pi-1" in desk.exclusions
    assert desk.told == [ExcludeDevice("pi-1", "stolen")]


def test_the_last_reason_for_excluding_a_device_stands(desk: Desk) -> None:
    desk.exclusions.exclude("pi-1", "lost")
    desk.exclusions.exclude("pi-1", "stolen")
    assert desk.ledger.excluded() == {"pi-1": "stolen"}


def test_an_admitted_device_is_heard_again_after_a_restart_too(desk: Desk) -> None:
    desk.exclusions.exclude("pi-1", "")
    assert desk.exclusions.admit("pi-1") == "pi-1 is heard again"
    assert desk.asked == ["pi-1"]
    assert "pi-1" not in desk.exclusions
    desk.begin()
    assert "pi-1" not in desk.exclusions


@pytest.mark.parametrize("excluded", [True, False], ids=["excluded before", "set up anew"])
def test_an_admitted_device_is_known_by_the_key_that_it_uses_next(desk: Desk, *, excluded: bool) -> None:
    for device in ("pi-1", "pi-2"):
        desk.ledger.pin_device_key(device, f"key of {device}", 1.0)
    if excluded:
        desk.exclusions.exclude("pi-1", "stolen")
    desk.exclusions.admit("pi-1")
    assert desk.ledger.device_keys() == {"pi-2": "key of pi-2"}
    assert desk.asked == ["pi-1"]


def test_admitting_a_device_that_is_not_excluded_is_no_fault(desk: Desk) -> None:
    assert desk.exclusions.admit("pi-1") == "pi-1 was not excluded"


def test_a_presence_that_the_broker_brings_back_is_cleared_again(desk: Desk) -> None:
    desk.exclusions.exclude("pi-1", "")
    desk.cleared.clear()
    desk.exclusions.heard("pi-1", PRESENCE, Received("t", b"x", True, None))
    assert desk.cleared == ["pi-1"]


@pytest.mark.parametrize(
    ("payload", "retained"), [(b"x", False), (b"", True)], ids=["said now", "our own emptying"]
)
def test_a_device_that_goes_on_talking_is_not_answered(desk: Desk, payload: bytes, *, retained: bool) -> None:
    desk.exclusions.exclude("pi-1", "")
    desk.cleared.clear()
    desk.exclusions.heard("pi-1", PRESENCE, Received("t", payload, retained, None))
    desk.exclusions.heard("pi-1", HEARTBEAT, Received("t", b"x", False, None))
    assert desk.cleared == []


def test_there_is_a_limit_to_how_many_are_excluded(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusions, "MAX_DEVICES", 1)
    desk.exclusions.exclude("pi-1", "")
    with pytest.raises(DataError, match="admit some before you exclude pi-2"):
        desk.exclusions.exclude("pi-2", "")
    assert "pi-1 is excluded" in desk.exclusions.exclude("pi-1", "again")
