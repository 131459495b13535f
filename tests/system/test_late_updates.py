"""An update that misses its round counts in the next one, once, whatever is killed in between."""

import hashlib
import math
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from broker.messages import Assignment, BlobRef, Offer
from broker.update import encode_update
from tests.system.hand import Hand
from tests.system.lab import DEVICES, Lab

P = 15
CHUNK = 1024
EXAMPLES = 10
FRESH, LATE = 0.5, 0.25


def upload(hand: Hand, asked: Assignment, value: float) -> str:
    """Send an update of this value for the round; how it is answered."""
    content = b"".join(encode_update(asked.layout, {"delta": np.full(P, value, np.float32)}))
    ref = BlobRef(digest=hashlib.sha256(content).hexdigest(), size=len(content), chunk_bytes=CHUNK)
    offer = Offer(run=asked.run, round=asked.round, update=ref, examples=EXAMPLES)
    return hand.upload(offer, content).outcome


@pytest.mark.timeout(240)
def test_a_late_update_survives_a_kill_and_is_in_the_next_model_once(lab: Lab) -> None:
    process = lab.start_aggregator(chunk_bytes=CHUNK)
    first, second, third = (lab.hand(device) for device in DEVICES)
    run = lab.start_run(
        rounds=2,
        min_devices=3,
        target=2,
        over_selection=1.5,
        late="carry",
        federated_evaluation=False,
    )
    asked = third.assignment()
    assert asked.carries
    assert [upload(hand, asked, FRESH) for hand in (first, second)] == ["accepted", "accepted"]
    assert upload(third, asked, LATE) == "accepted"
    process.kill()
    lab.start_aggregator(chunk_bytes=CHUNK)

    while asked.round == 1:
        asked = first.assignment()
    assert not asked.carries
    assert [upload(hand, asked, FRESH) for hand in (first, second)] == ["accepted", "accepted"]
    assert lab.until_ended(run)["state"] == "finished"
    before, after = (
        np.fromfile(lab.run_folder(run) / f"theta/round-000{number}.f32", np.float32) for number in (1, 2)
    )
    weight = 1 / math.sqrt(2)
    assert after - before == pytest.approx((2 * FRESH + weight * LATE) / (2 + weight), abs=1e-5)
    with closing(sqlite3.connect(lab.folder / "aggregator/ledger.sqlite")) as ledger:
        rows = ledger.execute("SELECT round, device FROM decisions WHERE decision = 'carries'").fetchall()
    assert rows == [(1, DEVICES[2])]
