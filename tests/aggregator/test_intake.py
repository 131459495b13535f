from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aggregator.intake import Complete, Effect, Intake, IntakeLimits, Offered, Open, SendGrant
from broker.messages import BlobRef

CHUNK = 1024


def ref(chunks: int, name: int = 0) -> BlobRef:
    return BlobRef(digest=f"{name:064x}"[::-1], size=chunks * CHUNK, chunk_bytes=CHUNK)


def granted(effects: Iterable[Effect]) -> list[tuple[str, tuple[int, ...]]]:
    return [(e.device, e.grant.indexes) for e in effects if isinstance(e, SendGrant)]


def upload(intake: Intake, device: str, blob: BlobRef, now: float = 0.0) -> list[Effect]:
    effects = intake.offered(device, "run", 1, blob, 0.0)
    offer = Offered(device, "run", 1, blob)
    assert effects == [Open(offer)]
    return intake.opened(offer, range(blob.chunks), now)


@pytest.fixture
def intake() -> Intake:
    made = Intake(IntakeLimits(max_grants=2, window=4, queue=3, lease_s=10.0, max_leases=3))
    made.connected(0.0)
    return made


def test_a_grant_names_the_offer_and_no_more_chunks_than_the_window(intake: Intake) -> None:
    blob = ref(6)
    (effect,) = upload(intake, "a", blob)
    assert isinstance(effect, SendGrant)
    assert (effect.grant.run, effect.grant.round) == ("run", 1)
    assert effect.grant.transfer == blob.transfer
    assert effect.grant.indexes == (0, 1, 2, 3)


def test_the_next_chunks_are_granted_when_half_of_the_window_came(intake: Intake) -> None:
    blob = ref(9)
    upload(intake, "a", blob)
    assert intake.chunk("a", blob.transfer, 3, 1.0) == []
    assert granted(intake.chunk("a", blob.transfer, 0, 1.0)) == [("a", (4, 5))]


def test_the_last_chunk_completes_the_upload(intake: Intake) -> None:
    blob = ref(2)
    upload(intake, "a", blob)
    intake.chunk("a", blob.transfer, 1, 1.0)
    assert intake.chunk("a", blob.transfer, 0, 1.0) == [Complete(Offered("a", "run", 1, blob))]
    assert intake.next_deadline() is None


def test_only_what_an_earlier_upload_lacks_is_granted(intake: Intake) -> None:
    blob = ref(6)
    intake.offered("a", "run", 1, blob, 0.0)
    assert granted(intake.opened(Offered("a", "run", 1, blob), [2, 5], 0.0)) == [("a", (2, 5))]


def test_an_upload_that_is_whole_already_completes_when_opened(intake: Intake) -> None:
    offer = Offered("a", "run", 1, ref(6))
    intake.offered("a", "run", 1, offer.ref, 0.0)
    assert intake.opened(offer, [], 0.0) == [Complete(offer)]


def test_offers_above_the_number_of_grants_wait_in_order(intake: Intake) -> None:
    blob = ref(1)
    for device in ("a", "b"):
        upload(intake, device, blob)
    assert intake.offered("c", "run", 1, blob, 0.0) == []
    assert intake.offered("d", "run", 1, blob, 0.0) == []
    assert intake.offered("c", "run", 1, blob, 0.0) == []
    assert intake.chunk("a", blob.transfer, 0, 1.0)[1:] == [Open(Offered("c", "run", 1, blob))]
    assert intake.chunk("b", blob.transfer, 0, 1.0)[1:] == [Open(Offered("d", "run", 1, blob))]


def test_an_offer_above_the_queue_is_turned_away_and_counted(intake: Intake) -> None:
    blob = ref(1)
    for device in ("a", "b"):
        upload(intake, device, blob)
    for device in ("c", "d", "e", "f"):
        assert intake.offered(device, "run", 1, blob, 0.0) == []
    assert intake.turned_away == 1
    intake.validate()


def test_a_repeated_offer_is_answered_with_what_is_outstanding(intake: Intake) -> None:
    blob = ref(4)
    upload(intake, "a", blob)
    intake.chunk("a", blob.transfer, 1, 1.0)
    assert granted(intake.offered("a", "run", 1, blob, 6.0)) == [("a", (0, 2, 3))]


def test_an_offer_repeated_while_the_grant_may_be_on_its_way_is_not_answered_twice(intake: Intake) -> None:
    blob = ref(4)
    upload(intake, "a", blob)
    assert intake.offered("a", "run", 1, blob, 4.9) == []


def test_an_offer_from_a_new_connection_is_answered_at_once_and_once(intake: Intake) -> None:
    blob = ref(4)
    upload(intake, "a", blob)
    intake.chunk("a", blob.transfer, 1, 1.0)
    intake.reconnected("a")
    intake.reconnected("b")
    assert granted(intake.offered("a", "run", 1, blob, 1.5)) == [("a", (0, 2, 3))]
    assert intake.offered("a", "run", 1, blob, 2.0) == []


def test_repeating_the_offer_does_not_prolong_the_lease(intake: Intake) -> None:
    upload(intake, "a", ref(4), now=0.0)
    intake.offered("a", "run", 1, ref(4), 9.0)
    assert intake.next_deadline() == 10.0


def test_an_offer_of_other_content_takes_the_place_of_the_first(intake: Intake) -> None:
    first, second = ref(4, name=1), ref(4, name=2)
    upload(intake, "a", first)
    assert intake.offered("a", "run", 1, second, 0.0) == [Open(Offered("a", "run", 1, second))]
    assert not intake.wanted("a", first.transfer, 0)
    assert intake.opened(Offered("a", "run", 1, first), [0], 0.0) == []


@pytest.mark.parametrize(
    ("device", "transfer", "index"),
    [("b", ref(9).transfer, 0), ("a", "f" * 16, 0), ("a", ref(9).transfer, 4), ("a", ref(9).transfer, 99)],
)
def test_a_chunk_that_was_not_granted_is_dropped_and_counted(
    intake: Intake, device: str, transfer: str, index: int
) -> None:
    upload(intake, "a", ref(9))
    assert not intake.wanted(device, transfer, index)
    assert intake.chunk(device, transfer, index, 1.0) == []
    assert intake.dropped == 1


def test_a_chunk_that_comes_twice_counts_once(intake: Intake) -> None:
    blob = ref(3)
    upload(intake, "a", blob)
    intake.chunk("a", blob.transfer, 0, 1.0)
    assert intake.chunk("a", blob.transfer, 0, 1.0) == []
    assert intake.dropped == 1


def test_outstanding_chunks_are_asked_for_again_when_the_lease_lapses(intake: Intake) -> None:
    blob = ref(4)
    upload(intake, "a", blob, now=0.0)
    intake.chunk("a", blob.transfer, 2, 5.0)
    assert intake.lapsed(14.9) == []
    assert granted(intake.lapsed(15.0)) == [("a", (0, 1, 3))]
    assert intake.next_deadline() == 25.0


def test_a_device_silent_for_three_leases_loses_its_grant_to_the_next(intake: Intake) -> None:
    blob = ref(4)
    for device in ("a", "b"):
        upload(intake, device, blob, now=0.0)
    intake.offered("c", "run", 1, blob, 0.0)
    for now in (10.0, 20.0):
        assert len(granted(intake.lapsed(now))) == 2
        intake.chunk("b", blob.transfer, int(now) // 10, now)
    effects = intake.lapsed(30.0)
    assert effects == [*effects[:-1], Open(Offered("c", "run", 1, blob))]
    assert granted(effects) == [("b", (0, 3))]


def test_silence_does_not_count_while_the_broker_is_out_of_reach(intake: Intake) -> None:
    upload(intake, "a", ref(4), now=0.0)
    intake.disconnected()
    assert intake.next_deadline() is None
    assert intake.lapsed(1000.0) == []
    assert granted(intake.connected(1000.0)) == [("a", (0, 1, 2, 3))]
    assert intake.next_deadline() == 1010.0


def test_a_cancelled_round_frees_its_grants_and_places(intake: Intake) -> None:
    blob = ref(4)
    for device in ("a", "b"):
        upload(intake, device, blob)
    intake.offered("c", "run", 1, blob, 0.0)
    intake.offered("d", "run", 2, blob, 0.0)
    assert intake.cancel("run", 1) == [Open(Offered("d", "run", 2, blob))]
    assert not intake.wanted("a", blob.transfer, 0)


def test_a_device_that_died_makes_room_for_the_next(intake: Intake) -> None:
    blob = ref(4)
    for device in ("a", "b"):
        upload(intake, device, blob)
    intake.offered("c", "run", 1, blob, 0.0)
    assert intake.forget("a") == [Open(Offered("c", "run", 1, blob))]


class Devices(RuleBasedStateMachine):
    """Devices that answer some grants, late or never, on a network that loses and repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.intake = Intake(IntakeLimits(max_grants=2, window=4, queue=4, lease_s=10.0, max_leases=3))
        self.now = 0.0
        self.stored: dict[tuple[str, str], set[int]] = {}
        self.offers: dict[str, Offered] = {}
        self.asked: dict[str, set[tuple[str, int]]] = {}
        self.completed: set[Offered] = set()

    @initialize()
    def connect(self) -> None:
        self.carry_out(self.intake.connected(self.now))

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Open):
                blob = effect.offer.ref
                have = self.stored.setdefault((effect.offer.device, blob.transfer), set())
                missing = [index for index in range(blob.chunks) if index not in have]
                self.carry_out(self.intake.opened(effect.offer, missing, self.now))
            elif isinstance(effect, SendGrant):
                assert 0 < len(effect.grant.indexes) <= 4
                have = self.stored[effect.device, effect.grant.transfer]
                assert not have.intersection(effect.grant.indexes), "asked for what is in place"
                asked = self.asked.setdefault(effect.device, set())
                asked.update((effect.grant.transfer, index) for index in effect.grant.indexes)
            else:
                have = self.stored[effect.offer.device, effect.offer.ref.transfer]
                assert have == set(range(effect.offer.ref.chunks))
                self.completed.add(effect.offer)
                self.offers.pop(effect.offer.device, None)

    @rule(device=st.sampled_from("abcdefg"), chunks=st.integers(1, 11), name=st.integers(0, 1))
    def offer(self, device: str, chunks: int, name: int) -> None:
        offer = Offered(device, "run", 1 + name, ref(chunks, 100 * chunks + name))
        if offer not in self.completed:
            self.offers[device] = offer
            self.carry_out(self.intake.offered(device, "run", offer.round, offer.ref, self.now))

    @precondition(lambda self: any(self.asked.values()))
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(d for d, asked in self.asked.items() if asked)))
        transfer, index = data.draw(st.sampled_from(sorted(self.asked[device])))
        if data.draw(st.booleans()):
            self.asked[device].remove((transfer, index))
        self.receive(device, transfer, index)

    @rule(device=st.sampled_from("abcdefg"), transfer=st.just("f" * 16), index=st.integers(0, 20))
    def receive(self, device: str, transfer: str, index: int) -> None:
        dropped = self.intake.dropped
        wanted = self.intake.wanted(device, transfer, index)
        if wanted:
            self.stored[device, transfer].add(index)
        self.carry_out(self.intake.chunk(device, transfer, index, self.now))
        assert self.intake.dropped == dropped + (not wanted)

    @rule(seconds=st.floats(0, 25))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.intake.lapsed(self.now))
        deadline = self.intake.next_deadline()
        assert deadline is None or deadline > self.now

    @rule(round_=st.integers(1, 2))
    def cancel(self, round_: int) -> None:
        self.carry_out(self.intake.cancel("run", round_))

    @rule(device=st.sampled_from("abcdefg"))
    def die(self, device: str) -> None:
        self.asked.pop(device, None)
        self.carry_out(self.intake.forget(device))

    @rule(device=st.sampled_from("abcdefg"))
    def cut(self, device: str) -> None:
        self.asked.pop(device, None)
        self.intake.reconnected(device)

    @rule()
    def reconnect(self) -> None:
        self.intake.disconnected()
        self.asked.clear()
        self.connect()

    @invariant()
    def is_valid(self) -> None:
        self.intake.validate()

    def teardown(self) -> None:
        """Liveness: on a network that works, every offer completes."""
        for _ in range(100):
            if not self.offers:
                break
            for offer in list(self.offers.values()):
                self.carry_out(self.intake.offered(offer.device, offer.run, offer.round, offer.ref, self.now))
            self.now += 10.0
            self.carry_out(self.intake.lapsed(self.now))
            while any(self.asked.values()):
                device = next(d for d, asked in self.asked.items() if asked)
                self.receive(device, *self.asked[device].pop())
        assert not self.offers


Devices.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestDevices = Devices.TestCase
