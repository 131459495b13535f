from pathlib import Path

import pytest

from broker import topics as tree
from broker.envelope import disclose
from broker.messages import AgentState, BlobRef, Heartbeat, Message, Offer, Presence, Report
from broker.sealing import SealingKey
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import Branch, Topics
from broker.wire import decode, encode
from edge_agent.voice import Voice

TOPICS = Topics("lab")
CONNECTION = "a" * 16
BIRTH = Presence(online=True, connection=CONNECTION, examples=4321, tags=("indoor",))
OFFER = Offer(run="run-a", round=1, update=BlobRef(digest="ab" * 32, size=9, chunk_bytes=1024), examples=4321)
REPORT = Report(run="run-a", round=1, metrics={"accuracy": (1.0, 2.0)})
BEAT = Heartbeat(connection=CONNECTION, state=AgentState.IDLE)
TELLING: list[tuple[Branch, Message]] = [(tree.OFFER, OFFER), (tree.REPORT, REPORT), (tree.PRESENCE, BIRTH)]


@pytest.fixture
def key(tmp_path: Path) -> SealingKey:
    return SealingKey(tmp_path / "sealing.key")


def voice(folder: Path, *, sealed: bool) -> Voice:
    silent = Session(
        BrokerSettings(url="mqtt://pi"), "pi-1", lambda _event: None, will=None, subscriptions=[]
    )
    return Voice(silent, TOPICS, "pi-1", folder / "device.key", sealed=sealed)


def test_without_a_key_all_is_said_as_it_is_and_no_key_is_made(tmp_path: Path) -> None:
    speaks = voice(tmp_path, sealed=False)
    for branch, message in [*TELLING, (tree.HEARTBEAT, BEAT)]:
        assert speaks.payload(branch, message, None) == encode(message)
    assert not (tmp_path / "device.key").exists()


@pytest.mark.parametrize("asked", ["by the announcement", "by the settings too"])
def test_with_a_key_what_tells_of_the_data_is_sealed(tmp_path: Path, key: SealingKey, asked: str) -> None:
    speaks = voice(tmp_path, sealed=asked == "by the settings too")
    for branch, message in TELLING:
        payload = speaks.payload(branch, message, key.public_key)
        assert payload is not None
        assert encode(message)[10:] not in payload
        if branch is tree.PRESENCE:
            bare = decode(Presence, payload)
            assert bare.sealed is not None
            assert bare.model_copy(update={"sealed": None}) == Presence(online=True, connection=CONNECTION)
            payload = bare.sealed
        topic = TOPICS.topic(branch, device="pi-1")
        assert disclose(type(message), topic, payload, key)[1] == message
    assert speaks.payload(tree.HEARTBEAT, BEAT, key.public_key) == encode(BEAT)


def test_who_is_to_seal_says_nothing_of_the_data_before_there_is_a_key(tmp_path: Path) -> None:
    speaks = voice(tmp_path, sealed=True)
    assert speaks.payload(tree.OFFER, OFFER, None) is None
    assert speaks.payload(tree.REPORT, REPORT, None) is None
    bare = encode(Presence(online=True, connection=CONNECTION))
    assert speaks.payload(tree.PRESENCE, BIRTH, None) == bare


def test_a_key_that_is_none_silences_us_instead_of_all_that_we_say(tmp_path: Path) -> None:
    assert voice(tmp_path, sealed=False).payload(tree.OFFER, OFFER, "00" * 32) is None


def test_the_device_keeps_its_key(tmp_path: Path, key: SealingKey) -> None:
    topic, keys = TOPICS.topic(tree.OFFER, device="pi-1"), set()
    for _ in range(2):
        payload = voice(tmp_path, sealed=True).payload(tree.OFFER, OFFER, key.public_key)
        assert payload is not None
        keys.add(disclose(Offer, topic, payload, key)[0])
    assert len(keys) == 1
