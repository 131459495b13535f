import hashlib
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from aggregator.coordinator.events import Event, UpdateReceived, UpdateRejected
from aggregator.intake import IntakeLimits
from aggregator.opening import Opening
from aggregator.spool import Spool
from aggregator.uploads import Uploads
from broker.layout import Layout
from broker.messages import BlobRef, Grant, Offer, RejectReason
from broker.sealing import SealingKey, context_of, seal_update
from broker.topics import Topics
from broker.update import DELTA, encode_update
from host.errors import StorageError, WireError
from host.files import is_no_room
from host.loop import Jobs, Loop

TOPICS = Topics("lab")
LAYOUT = Layout(trainable=((1000,),))
CHUNK = 1024
RUN = "run-a"


def update(value: float = 0.5, layout: str = LAYOUT.digest, length: int = 1000) -> bytes:
    return b"".join(encode_update(layout, {DELTA: np.full(length, value, np.float32)}))


def offer_of(content: bytes, number: int = 1, examples: int = 7) -> Offer:
    digest = hashlib.sha256(content).hexdigest()
    ref = BlobRef(digest=digest, size=len(content), chunk_bytes=CHUNK)
    return Offer(run=RUN, round=number, update=ref, examples=examples)


class Bench:
    """Uploads with a spool, a loop that is turned by hand, and devices that answer their grants."""

    def __init__(self, folder: Path, limits: IntakeLimits) -> None:
        self.folder = folder
        self.loop = Loop()
        self.jobs = Jobs(self.loop)
        self.spool = Spool(folder, 1 << 20)
        self.grants: list[tuple[str, Grant]] = []
        self.told: list[Event] = []
        self.full: list[Exception] = []
        self.opening = Opening(TOPICS, None, required=False)
        self.limits = limits
        self.now = 0.0
        self.begin()

    def begin(self) -> None:
        """As a process does that finds the spool of an earlier one."""
        self.uploads = Uploads(
            self.spool,
            self.jobs,
            self.limits,
            lambda device, grant: self.grants.append((device, grant)),
            self.told.append,
            self.full.append,
            self.opening,
        )
        self.uploads.connected(self.now)

    def admit(self, device: str, offer: Offer, max_norm: float | None = None) -> None:
        self.uploads.admit(device, offer, LAYOUT, max_norm, self.now)

    def send(self, device: str, content: bytes, index: int) -> None:
        transfer = offer_of(content).update.transfer
        data = content[index * CHUNK : (index + 1) * CHUNK]
        self.uploads.chunk(device, transfer, index, data, self.now)

    def answer_grants(self, device: str, content: bytes) -> list[int]:
        """Send every chunk that is granted to a device; which they were."""
        sent = []
        while mine := [grant for name, grant in self.grants if name == device]:
            self.grants = [(name, grant) for name, grant in self.grants if name != device]
            for index in (index for grant in mine for index in grant.indexes):
                data = content[index * CHUNK : (index + 1) * CHUNK]
                self.uploads.chunk(device, mine[0].transfer, index, data, self.now)
                sent.append(index)
        return sent

    def upload(self, device: str, content: bytes, offered: Offer | None = None) -> None:
        """From the offer to the verdict."""
        self.admit(device, offered or offer_of(content))
        self.answer_grants(device, content)
        self.settle()

    def settle(self) -> None:
        """Turn the loop until all jobs submitted so far are reported."""
        done: list[None] = []
        self.jobs.submit(lambda: None, done.append, self.fail)
        while not done:
            action = self.loop._inbox.get(20.0)
            assert action is not None
            action()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While the thread of the jobs is busy with another one."""
        free = threading.Event()
        self.jobs.submit(lambda: free.wait(20.0), lambda _: None, self.fail)
        yield
        free.set()

    def fail(self, error: Exception) -> None:
        raise error

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*.*"))


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """While this lasts the process can write no file beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "spool", IntakeLimits(max_grants=1, window=2, queue=1, lease_s=10.0))
    yield made
    made.jobs.close()


def test_an_update_comes_by_grants_and_lies_verified_in_the_spool(bench: Bench) -> None:
    content = update()
    bench.upload("a", content)
    assert bench.told == [UpdateReceived("a", offer_of(content))]
    assert bench.spool.path(RUN, 1, "a").read_bytes() == content
    assert bench.files() == [f"{RUN}/1/a.update"]


def test_no_more_chunks_are_granted_than_the_window(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content))
    ((device, grant),) = bench.grants
    assert (device, grant.transfer, grant.indexes) == ("a", offer_of(content).update.transfer, (0, 1))


def test_chunks_that_nobody_granted_are_dropped(bench: Bench) -> None:
    content = update()
    bench.send("a", content, 0)
    bench.admit("a", offer_of(content))
    bench.send("a", content, 4)
    bench.send("b", content, 0)
    assert bench.uploads.dropped == 3
    assert bench.files() == []


def test_a_chunk_of_a_wrong_length_is_refused_and_asked_for_again(bench: Bench) -> None:
    content = update()
    offer = offer_of(content)
    bench.admit("a", offer)
    with pytest.raises(WireError, match="has 5 bytes, 1024 were expected"):
        bench.uploads.chunk("a", offer.update.transfer, 0, b"short", 1.0)
    bench.grants.clear()
    assert bench.uploads.next_deadline() == 10.0
    bench.uploads.lapsed(10.0)
    assert [grant.indexes for _, grant in bench.grants] == [(0, 1)]
    bench.answer_grants("a", content)
    bench.settle()
    assert bench.told == [UpdateReceived("a", offer)]


@pytest.mark.parametrize(
    ("content", "max_norm", "reason"),
    [
        (update(layout="0" * 64), None, RejectReason.LAYOUT),
        (update(length=999), None, RejectReason.LAYOUT),
        (update(float("nan")), None, RejectReason.NOT_FINITE),
        (update(float("inf")), None, RejectReason.NOT_FINITE),
        (update(1.0), 31.0, RejectReason.NORM),
        (b"nothing of ours" * 100, None, RejectReason.MALFORMED),
    ],
)
def test_what_cannot_be_used_is_rejected_and_removed(
    bench: Bench, content: bytes, max_norm: float | None, reason: RejectReason
) -> None:
    bench.admit("a", offer_of(content), max_norm)
    bench.answer_grants("a", content)
    bench.settle()
    assert bench.told == [UpdateRejected("a", offer_of(content), reason)]
    assert bench.files() == []


def test_an_update_within_the_norm_is_taken(bench: Bench) -> None:
    content = update(1.0)
    bench.admit("a", offer_of(content), 32.0)
    bench.answer_grants("a", content)
    bench.settle()
    assert bench.told == [UpdateReceived("a", offer_of(content))]


def test_content_that_is_not_what_was_offered_is_rejected(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content))
    bench.answer_grants("a", content[:-1] + b"!")
    bench.settle()
    assert bench.told == [UpdateRejected("a", offer_of(content), RejectReason.DIGEST)]
    assert bench.files() == []


def test_the_newest_offer_of_the_same_update_is_what_counts(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content, examples=7))
    bench.send("a", content, 0)
    bench.grants.clear()
    bench.now += bench.limits.patience_s
    bench.admit("a", offer_of(content, examples=9))
    bench.answer_grants("a", content)
    bench.settle()
    assert bench.told == [UpdateReceived("a", offer_of(content, examples=9))]


def test_only_what_an_earlier_process_did_not_get_is_granted(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content))
    for index in (0, 1):
        bench.send("a", content, index)
    bench.grants.clear()
    bench.begin()
    bench.admit("a", offer_of(content))
    assert bench.answer_grants("a", content) == [2, 3, 4]
    bench.settle()
    assert bench.told == [UpdateReceived("a", offer_of(content))]


def test_what_was_granted_before_a_device_connected_again_is_granted_once_more(bench: Bench) -> None:
    offer = offer_of(update())
    bench.admit("a", offer)
    granted, bench.grants = bench.grants, []
    bench.admit("a", offer)
    assert bench.grants == [], "the first may still be on its way"
    bench.uploads.reconnected("a")
    bench.admit("a", offer)
    assert bench.grants == granted


def test_an_update_that_does_not_fit_the_spool_waits_until_there_is_room(bench: Bench) -> None:
    content = update()
    filler = bench.folder / RUN / "1" / "x.update"
    filler.parent.mkdir(parents=True)
    filler.write_bytes(bytes((1 << 20) - 4000))
    bench.admit("a", offer_of(content))
    assert bench.grants == []
    filler.unlink()
    bench.upload("a", content)
    assert bench.told == [UpdateReceived("a", offer_of(content))]


def test_a_silent_device_is_asked_again_and_then_gives_way(bench: Bench) -> None:
    first, second = update(1.0), update(2.0)
    bench.admit("a", offer_of(first))
    bench.admit("b", offer_of(second))
    assert [device for device, _ in bench.grants] == ["a"]
    for now in (10.0, 20.0, 30.0):
        bench.uploads.lapsed(now)
    assert [device for device, _ in bench.grants] == ["a", "a", "a", "b"]
    bench.grants = [entry for entry in bench.grants if entry[0] == "b"]
    bench.answer_grants("b", second)
    bench.settle()
    assert bench.told == [UpdateReceived("b", offer_of(second))]


def test_silence_does_not_count_while_disconnected(bench: Bench) -> None:
    bench.admit("a", offer_of(update()))
    bench.uploads.disconnected()
    assert bench.uploads.next_deadline() is None
    bench.grants.clear()
    bench.uploads.connected(100.0)
    assert [grant.indexes for _, grant in bench.grants] == [(0, 1)]
    assert bench.uploads.next_deadline() == 110.0


def test_a_device_that_lost_its_state_uploads_its_new_update_instead(bench: Bench) -> None:
    old, new = update(1.0), update(2.0)
    bench.admit("a", offer_of(old))
    bench.send("a", old, 0)
    bench.grants.clear()
    bench.upload("a", new)
    assert bench.told == [UpdateReceived("a", offer_of(new))]
    assert bench.spool.path(RUN, 1, "a").read_bytes() == new
    assert bench.files() == [f"{RUN}/1/a.update"]


def test_another_update_is_not_mixed_with_the_one_before_when_the_queue_is_full(bench: Bench) -> None:
    old, new, other = update(1.0), update(2.0), update(3.0)
    bench.admit("a", offer_of(old))
    bench.admit("b", offer_of(other))
    bench.admit("a", offer_of(new))
    for index in range(4):
        bench.send("a", old, index)
    bench.grants = [entry for entry in bench.grants if entry[0] == "b"]
    bench.answer_grants("b", other)
    bench.answer_grants("a", new)
    bench.settle()
    assert bench.told == [UpdateReceived("b", offer_of(other)), UpdateReceived("a", offer_of(new))]


def test_a_round_that_is_over_takes_no_more_chunks(bench: Bench) -> None:
    content, following = update(), update(2.0)
    bench.admit("a", offer_of(content))
    bench.admit("b", offer_of(following, 2))
    bench.send("a", content, 0)
    bench.uploads.drop(RUN, 1, 1.0)
    bench.send("a", content, 1)
    assert bench.uploads.dropped == 1
    bench.grants = [entry for entry in bench.grants if entry[0] == "b"]
    bench.answer_grants("b", following)
    bench.settle()
    assert bench.told == [UpdateReceived("b", offer_of(following, 2))]


def test_what_is_verified_when_its_round_ends_is_told_all_the_same(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content))
    bench.answer_grants("a", content)
    bench.uploads.drop(RUN, 1, 1.0)
    bench.settle()
    assert bench.told == [UpdateReceived("a", offer_of(content))]


def test_files_swept_away_while_they_are_verified_for_a_round_that_is_over_hurt_nobody(bench: Bench) -> None:
    content, following = update(), update(2.0)
    bench.admit("a", offer_of(content))
    with bench.busy():
        bench.answer_grants("a", content)
        bench.uploads.drop(RUN, 1, 1.0)
        bench.spool.sweep([])
    bench.settle()
    assert bench.told == []
    bench.upload("a", following, offer_of(following, 2))
    assert bench.told == [UpdateReceived("a", offer_of(following, 2))]


def test_an_excluded_device_gives_its_place_to_the_next(bench: Bench) -> None:
    first, second = update(1.0), update(2.0)
    bench.admit("a", offer_of(first))
    bench.admit("b", offer_of(second))
    bench.uploads.forget("a", bench.now)
    assert [device for device, _ in bench.grants] == ["a", "b"]
    bench.send("a", first, 0)
    assert bench.uploads.dropped == 1


def test_what_is_verified_when_its_device_is_excluded_is_told_all_the_same(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content))
    bench.answer_grants("a", content)
    bench.uploads.forget("a", bench.now)
    bench.settle()
    assert bench.told == [UpdateReceived("a", offer_of(content))]


def test_files_that_vanish_from_an_open_round_are_an_error(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content))
    with bench.busy():
        bench.answer_grants("a", content)
        bench.spool.sweep([])
    with pytest.raises(StorageError, match="could not be finished"):
        bench.settle()


def test_other_offers_of_a_device_wait_until_its_update_is_verified(bench: Bench) -> None:
    content, other = update(1.0), update(2.0)
    bench.admit("a", offer_of(content))
    bench.answer_grants("a", content)
    bench.admit("a", offer_of(other))
    assert bench.grants == []
    bench.settle()
    assert bench.told == [UpdateReceived("a", offer_of(content))]
    bench.upload("a", other)
    assert bench.told[1:] == [UpdateReceived("a", offer_of(other))]


def test_a_chunk_that_the_disk_does_not_take_is_told_and_asked_for_again(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content))
    with small_files(100):
        bench.answer_grants("a", content)
    assert [is_no_room(error) for error in bench.full] == [True, True], "a window of two"
    assert bench.told == []
    bench.now += 10.0
    bench.uploads.lapsed(bench.now)
    bench.answer_grants("a", content)
    bench.settle()
    assert bench.told == [UpdateReceived("a", offer_of(content))]


def test_an_upload_for_which_the_disk_has_no_room_may_be_offered_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = update()
    with monkeypatch.context() as small_disk:
        small_disk.setattr("aggregator.spool.RESERVE_BYTES", 1 << 60)
        bench.admit("a", offer_of(content))
    (error,) = bench.full
    assert is_no_room(error)
    assert "free some space" in str(error)
    bench.upload("a", content)
    assert bench.told == [UpdateReceived("a", offer_of(content))]


def test_what_a_power_cut_tore_comes_again_and_is_not_held_against_the_device(bench: Bench) -> None:
    content = update()
    bench.admit("a", offer_of(content))
    bench.send("a", content, 0)
    (part,) = bench.folder.rglob("*.part")
    part.write_bytes(bytes(CHUNK))
    bench.grants.clear()
    bench.begin()
    bench.upload("a", content)
    assert bench.told == []
    assert bench.files() == []
    bench.upload("a", content)
    assert bench.told == [UpdateReceived("a", offer_of(content))]


def test_content_that_is_wrong_from_its_first_chunk_on_is_rejected(bench: Bench) -> None:
    content = update()
    bench.upload("a", bytes(len(content)), offer_of(content))
    assert bench.told == [UpdateRejected("a", offer_of(content), RejectReason.DIGEST)]


def test_a_sealed_update_is_checked_inside_and_kept_as_it_came(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "spool", IntakeLimits())
    key = SealingKey(tmp_path / "sealing.key")
    bench.opening = Opening(TOPICS, key, required=True)
    bench.begin()

    def sealed(content: bytes, number: int, device: str = "pi-1") -> bytes:
        context = context_of(TOPICS, RUN, number, device)
        return b"".join(seal_update([content], key.public_key, context))

    good, nan = sealed(update(), 1), sealed(update(np.nan), 2)
    stolen, bare = sealed(update(), 3, "pi-2"), update()
    for number, content in enumerate((good, nan, stolen, bare), 1):
        bench.admit("pi-1", offer_of(content, number))
        bench.answer_grants("pi-1", content)
        bench.settle()
    reasons = [event.reason for event in bench.told if isinstance(event, UpdateRejected)]
    assert reasons == [RejectReason.NOT_FINITE, RejectReason.SEAL, RejectReason.SEAL]
    assert [event.offer.round for event in bench.told if isinstance(event, UpdateReceived)] == [1]
    assert bench.spool.path(RUN, 1, "pi-1").read_bytes() == good
    assert [path.name for path in (tmp_path / "spool").rglob("*") if path.is_file()] == ["pi-1.update"]
