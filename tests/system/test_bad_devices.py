"""Bad updates are rejected by name, garbage on any topic is dropped, and nothing good is lost."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from broker import topics as tree
from broker.messages import Assignment, BlobRef, DeclineReason, Offer, Receipt, Report
from broker.topics import Branch
from broker.update import encode_update
from tests.system.lab import Lab

P = 15
CHUNK = 1024


class Round:
    """An open round that waits for three devices moved by hand."""

    def __init__(self, lab: Lab, lease_s: float = 20.0) -> None:
        lab.start_aggregator(chunk_bytes=CHUNK, upload_lease_s=lease_s)
        self.lab = lab
        self.hands = {device: lab.hand(device) for device in ("pi-1", "pi-2", "pi-3")}
        self.run = lab.start_run(rounds=1, min_devices=3, quorum=1, federated_evaluation=False)
        self.assignment: Assignment = self.hands["pi-1"].assignment()

    def content(self, value: float = 0.5, length: int = P, layout: str | None = None) -> bytes:
        delta = np.full(length, value, np.float32)
        return b"".join(encode_update(layout or self.assignment.layout, {"delta": delta}))

    def offer(
        self, content: bytes, *, run: str | None = None, number: int = 1, digest: str | None = None
    ) -> Offer:
        named = digest or hashlib.sha256(content).hexdigest()
        ref = BlobRef(digest=named, size=len(content), chunk_bytes=CHUNK)
        return Offer(run=run or self.run, round=number, update=ref, examples=10)

    def upload(self, device: str, content: bytes, **other: object) -> Receipt:
        return self.hands[device].upload(self.offer(content, **other), content)  # type: ignore[arg-type]

    def finish(self) -> None:
        """The others send what is good; the round must close with what is good, and with nothing else."""
        for device, hand in self.hands.items():
            if device not in self.lab.accepted(self.run, 1):
                hand.report(Report(run=self.run, round=1, declined=DeclineReason.DATA))
        assert self.lab.until_ended(self.run)["state"] == "finished"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Round]:
    with Lab(tmp_path) as lab:
        yield Round(lab)


def test_bad_updates_are_rejected_by_name_and_good_ones_count_once(opened: Round) -> None:
    good = opened.content()
    stranger = opened.lab.hand("pi-5")
    uninvited = stranger.upload(opened.offer(good), good)
    assert (uninvited.outcome, uninvited.reason) == ("rejected", "not-in-cohort")
    stranger.leave()

    assert opened.upload("pi-1", good).outcome == "accepted"
    assert opened.upload("pi-1", good).outcome == "accepted"
    assert opened.upload("pi-1", opened.content(0.25)).outcome == "duplicate"

    late = opened.upload("pi-2", good, number=7)
    assert late.outcome == "late"
    assert opened.upload("pi-2", good, run="another-run").outcome == "unknown-run"
    not_finite = opened.upload("pi-2", opened.content(float("nan")))
    assert (not_finite.outcome, not_finite.reason) == ("rejected", "not-finite")

    # A round is over for whom it rejected: a second try gets the same answer.
    assert opened.upload("pi-2", good).reason == "not-finite"
    wrong_digest = opened.upload("pi-3", opened.content(0.125), digest="ab" * 32)
    assert (wrong_digest.outcome, wrong_digest.reason) == ("rejected", "wrong-digest")

    opened.finish()
    assert set(opened.lab.accepted(opened.run, 1)) == {"pi-1"}


@pytest.mark.parametrize(
    ("length", "layout", "reason"),
    [(P - 1, None, "wrong-layout"), (P, "cd" * 32, "wrong-layout"), (5000, None, "too-large")],
    ids=["too-short", "of-another-layout", "too-long"],
)
def test_an_update_of_another_model_is_rejected(
    opened: Round, length: int, layout: str | None, reason: str
) -> None:
    assert opened.upload("pi-1", opened.content(length=length, layout=layout)).reason == reason


def test_what_is_no_update_at_all_is_rejected(opened: Round) -> None:
    assert opened.upload("pi-1", b"\x00" * 300).reason == "malformed"


def test_garbage_on_every_topic_is_dropped_counted_and_said_once_a_device(opened: Round) -> None:
    garbage = [b"", b"\xc1", b"\x81\xa1a\x01", b"\xdd\xff\xff\xff\xff", b"x" * 100_000]
    bad = opened.hands["pi-2"]
    branches: list[Branch] = [tree.PRESENCE, tree.HEARTBEAT, tree.OFFER, tree.REPORT]
    for branch in branches:
        for payload in garbage:
            bad.say(branch, payload)
    for payload in garbage:
        bad.say(tree.UPDATE_CHUNK, payload, transfer="ab" * 8, index=3)
    # What is empty says nothing: it only clears what was retained.
    expected = (len(branches) + 1) * (len(garbage) - 1)
    opened.lab.until(lambda seen: seen.get("federation", {}).get("messages_dropped") == expected)
    assert opened.lab.log("aggregator").count("dropped a message of pi-2") == 1
    assert opened.upload("pi-1", opened.content()).outcome == "accepted"


def test_nobody_can_speak_from_another_devices_topic(opened: Round) -> None:
    good = opened.content()
    theirs = f"{opened.lab.topics.root}/devices/pi-1"
    for below in ("offer", "report", "presence", "heartbeat", f"chunks/{'ab' * 8}/0"):
        refused = opened.hands["pi-2"].say_on(f"{theirs}/{below}", b"")
        assert not refused.ok, below
    assert opened.upload("pi-2", good).outcome == "accepted"
    assert set(opened.lab.accepted(opened.run, 1)) == {"pi-2"}


def test_what_was_granted_before_a_cut_is_granted_again_at_the_first_offer_after_it(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        opened = Round(lab, lease_s=3600.0)
        content = opened.content()
        cut = opened.hands["pi-1"]
        cut.offer(opened.offer(content))
        cut.granted()
        cut.leave()
        # It offers once, and no lease lapses: nothing else would be answered within a test's patience.
        assert lab.hand("pi-1").upload(opened.offer(content), content).outcome == "accepted"


def test_chunks_that_nobody_granted_are_dropped(opened: Round) -> None:
    content = opened.content()
    offer = opened.offer(content)
    opened.hands["pi-1"].send_chunks(offer.update, content, range(offer.update.chunks))
    receipt = opened.hands["pi-1"].upload(offer, content)
    assert receipt.outcome == "accepted"
