import errno

import pytest

from aggregator.coordinator import effects as do
from aggregator.deeds import Deeds
from aggregator.records import Incident, IncidentKind
from broker.messages import BlobRef, Invite
from host.errors import NoRoomError, StorageError

REF = BlobRef(digest="a" * 64, size=4, chunk_bytes=1024)
HISTORY, DROP = do.WriteHistory("run"), do.DropUploads("run", 1)
BLOBS = do.PublishBlobs("run", (REF,))
INVITE = do.Send("pi-1", Invite(run="run", round=1))


def facts(number: int) -> do.Persist:
    record = Incident(IncidentKind.DAMAGED, None, None, str(number), "")
    return do.Persist((record,), str(number).encode())


class Disk:
    """Carries effects out, as long as there is room for those in `refused`."""

    def __init__(self) -> None:
        self.done: list[do.Effect] = []
        self.refused: set[type[do.Effect]] = set()
        self.told: list[Exception] = []
        self.error: Exception = OSError(errno.ENOSPC, "full")
        kinds = (do.Persist, do.WriteHistory, do.DropUploads, do.PublishBlobs, do.Send, do.Announce)
        self.deeds = Deeds(dict.fromkeys(kinds, self.carry_out), self.told.append)

    def carry_out(self, effect: do.Effect) -> None:
        if type(effect) in self.refused:
            raise self.error
        self.done.append(effect)


def test_effects_are_carried_out_in_order() -> None:
    disk = Disk()
    disk.deeds.carry_out([facts(1), INVITE, HISTORY])
    assert disk.done == [facts(1), INVITE, HISTORY]
    assert not disk.deeds.holding


def test_nothing_is_said_of_what_could_not_be_written() -> None:
    disk = Disk()
    disk.refused = {do.Persist}
    disk.deeds.carry_out([facts(1), do.Announce(None), INVITE, HISTORY])
    disk.deeds.carry_out([BLOBS])
    assert (disk.done, disk.told) == ([], [disk.error])
    assert disk.deeds.holding
    disk.refused = set()
    disk.deeds.retry()
    assert disk.done == [facts(1), do.Announce(None), HISTORY, BLOBS], "invitations are asked for again"
    assert not disk.deeds.holding


def test_facts_that_are_held_become_one_commit_with_the_newest_snapshot() -> None:
    disk = Disk()
    disk.refused = {do.Persist}
    for number in (1, 2, 3):
        disk.deeds.carry_out([facts(number), HISTORY])
    disk.refused = set()
    disk.deeds.retry()
    both = tuple(record for number in (1, 2, 3) for record in facts(number).records)
    assert disk.done == [do.Persist(both, b"3"), HISTORY]


def test_only_the_last_word_to_the_devices_is_held() -> None:
    disk = Disk()
    disk.refused = {do.WriteHistory}
    disk.deeds.carry_out([HISTORY, do.Announce(None, 1.0)])
    disk.deeds.carry_out([do.Announce(None, 2.0)])
    disk.refused = set()
    disk.deeds.retry()
    assert disk.done == [HISTORY, do.Announce(None, 2.0)]


def test_a_retry_goes_as_far_as_there_is_room() -> None:
    disk = Disk()
    disk.refused = {do.Persist, do.PublishBlobs}
    disk.deeds.carry_out([facts(1), BLOBS, HISTORY])
    disk.refused = {do.PublishBlobs}
    disk.deeds.retry()
    assert disk.done == [facts(1)]
    assert len(disk.told) == 2
    disk.refused = set()
    disk.deeds.retry()
    assert disk.done == [facts(1), BLOBS, HISTORY]


def test_work_that_ended_for_want_of_room_is_begun_again() -> None:
    disk = Disk()
    disk.deeds.hold(DROP, NoRoomError("full"))
    disk.deeds.carry_out([HISTORY])
    assert disk.done == []
    disk.deeds.retry()
    assert disk.done == [DROP, HISTORY]


@pytest.mark.parametrize("error", [StorageError("damaged"), PermissionError("no")])
def test_other_faults_are_not_waited_out(error: Exception) -> None:
    disk = Disk()
    disk.refused, disk.error = {do.Persist}, error
    with pytest.raises(type(error)):
        disk.deeds.carry_out([facts(1)])
    assert disk.told == []
