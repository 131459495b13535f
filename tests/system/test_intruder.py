"""Somebody has the aggregator's account on the broker, but not its key: a device with a pinned key stands."""

import hashlib
from collections.abc import Iterator

import pytest

from aggregator.settings import SIGNING_KEY
from broker.events import Received
from broker.messages import Announcement, Assignment, AssignmentPhase, BlobRef, Invite, Offer
from broker.program import Program
from broker.signing import Signer, unseal
from broker.topics import BLOB_CHUNK, INBOX, OFFER, ROUND
from broker.wire import decode, encode
from tests.broker.peer import Peer
from tests.system.lab import Lab

HOSTILE = "hostile"


class Intruder:
    """Writes what it likes to the aggregator's topics, and hears who obeys."""

    def __init__(self, lab: Lab, peer: Peer) -> None:
        self._topics = lab.topics
        self._peer = peer
        self._round = lab.topics.topic(ROUND)
        self._key = Signer(lab.folder / "intruder.key")

    def overheard(self, run: str, number: int) -> tuple[bytes, Assignment]:
        """Wait for the announcement that a round's training begins."""
        while True:
            message = self._peer.until(Received, lambda event: event.topic == self._round)
            asked = unseal(message.topic, message.payload, None).assignment
            if asked and (asked.run, asked.round, asked.phase) == (run, number, AssignmentPhase.TRAINING):
                return message.payload, asked

    def publish_blob(self, content: bytes, chunk_bytes: int) -> BlobRef:
        digest = hashlib.sha256(content).hexdigest()
        ref = BlobRef(digest=digest, size=len(content), chunk_bytes=chunk_bytes)
        for index in range(ref.chunks):
            chunk = content[index * chunk_bytes : (index + 1) * chunk_bytes]
            topic = self._topics.topic(BLOB_CHUNK, digest=digest, index=index)
            assert self._peer.send(topic, chunk, retain=True).ok
        return ref

    def publish_round(self, payload: bytes) -> None:
        assert self._peer.send(self._round, payload, retain=True).ok

    def forge(self, model: Assignment, program: Program) -> BlobRef:
        """Have devices run another program, in a session that no aggregator has come to."""
        theirs = program.model_copy(update={"body": "99"}).to_bytes()
        ref = self.publish_blob(theirs, model.program.chunk_bytes)
        asked = model.model_copy(update={"run": HOSTILE, "round": 1, "program": ref, "cohort": None})
        order = Announcement(session=1 << 40, sequence=1, assignment=asked)
        self.publish_round(encode(order))
        self.publish_round(self._key.seal(self._round, order))
        self._peer.send(self._topics.topic(INBOX, device="pi-1"), encode(Invite(run=HOSTILE, round=1)))
        return ref

    def obeyed(self) -> str:
        """Wait for a device that offers what the hostile program made of its data."""

        def hostile(message: Received) -> bool:
            address = self._topics.parse(message.topic)
            is_offer = address is not None and address.branch is OFFER
            return is_offer and decode(Offer, message.payload).run == HOSTILE

        address = self._topics.parse(self._peer.until(Received, hostile).topic)
        assert address is not None
        return address.fields["device"]


@pytest.fixture
def intruder(lab: Lab) -> Iterator[Intruder]:
    heard = (lab.topics.topic(ROUND), lab.topics.filter(OFFER))
    with Peer(lab.account("aggregator"), "intruder", *heard) as peer:
        yield Intruder(lab, peer)


def complete(lab: Lab) -> None:
    """A true run, in which the device that was not fooled takes part."""
    run = lab.start_run(rounds=1, min_devices=1)
    assert lab.until_ended(run)["state"] == "finished"
    assert set(lab.accepted(run, 1)) == {"pi-1"}


@pytest.mark.timeout(240)
def test_a_device_with_a_pinned_key_runs_nothing_forged_or_replayed(lab: Lab, intruder: Intruder) -> None:
    lab.start_aggregator()
    key = Signer(lab.folder / "aggregator" / SIGNING_KEY).public_key
    pinned = lab.start_agent("pi-1", aggregator_key=key)
    trusting = lab.start_agent("pi-2")
    run = lab.start_run(rounds=2, min_devices=2)
    old, asked = intruder.overheard(run, 1)
    assert lab.until_ended(run)["state"] == "finished"
    theta = (lab.run_folder(run) / "theta" / "round-0000.f32").read_bytes()
    program = (lab.run_folder(run) / "program.json").read_bytes()
    assert intruder.publish_blob(theta, asked.theta.chunk_bytes) == asked.theta

    forged = intruder.forge(asked, Program.from_bytes(program))
    # The attack is a real one.
    assert intruder.obeyed() == "pi-2"
    trusting.kill()
    lab.until_state("pi-2", "lost")
    complete(lab)

    pinned.kill()
    lab.until_state("pi-1", "lost")
    assert intruder.publish_blob(theta, asked.theta.chunk_bytes) == asked.theta
    assert intruder.publish_blob(program, asked.program.chunk_bytes) == asked.program
    intruder.publish_round(old)
    lab.start_agent("pi-1", aggregator_key=key)
    lab.until_state("pi-1", "idle")
    complete(lab)

    told = lab.log("pi-1")
    assert HOSTILE not in told
    assert not (lab.folder / "pi-1" / "blobs" / forged.digest).exists()
    assert told.count("is not signed with the pinned aggregator_key") == 1
    assert told.count(f"round 1 of run {run}: training") == 1
    assert "is stale or known" in told
