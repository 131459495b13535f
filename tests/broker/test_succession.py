import os
from pathlib import Path

import pytest

from broker.messages import Announcement
from broker.signing import (
    MAX_SUCCESSIONS,
    SignedAnnouncement,
    Signer,
    follow,
    read_chain,
    succeed,
    successor,
    unseal,
)
from broker.wire import decode, encode
from host.errors import ConfigError, ForgeryError

TOPIC = "midge/v1/lab/round"
ORDER = Announcement(session=7, sequence=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "signing.key"
    Signer(made)
    return made


def test_who_pinned_the_first_key_obeys_the_last_and_knows_it(path: Path) -> None:
    pinned = Signer(path).public_key
    for _ in range(3):
        before, after = succeed(path, TOPIC)
        assert before != after
    sealed = Signer(path).seal(TOPIC, ORDER)
    assert unseal(TOPIC, sealed, pinned) == ORDER
    assert successor(TOPIC, sealed, pinned) == after == Signer(path).public_key


def test_who_pinned_the_newest_key_does_not_obey_an_older_one(path: Path) -> None:
    old = Signer(path)
    _, pinned = succeed(path, TOPIC)
    with pytest.raises(ForgeryError, match="not signed with the pinned aggregator_key"):
        unseal(TOPIC, old.seal(TOPIC, ORDER), pinned)


def test_nobody_else_can_name_a_successor(path: Path, tmp_path: Path) -> None:
    pinned, thief = Signer(path).public_key, Signer(tmp_path / "thief.key")
    vouched = thief.vouch(TOPIC, thief.public_key).model_copy(update={"before": pinned})
    forged = decode(SignedAnnouncement, thief.seal(TOPIC, ORDER)).model_copy(
        update={"successions": (vouched,)}
    )
    with pytest.raises(ForgeryError):
        unseal(TOPIC, encode(forged), pinned)


def test_a_succession_is_for_one_federation(path: Path) -> None:
    vouched = Signer(path).vouch(TOPIC, "ab" * 32)
    with pytest.raises(ForgeryError):
        follow("midge/v1/other/round", Signer(path).public_key, [vouched])


def test_an_announcement_is_no_succession(path: Path) -> None:
    signer = Signer(path)
    signature = decode(SignedAnnouncement, signer.seal(TOPIC, ORDER)).signature
    forged = signer.vouch(TOPIC, "ab" * 32).model_copy(update={"signature": signature})
    with pytest.raises(ForgeryError):
        follow(TOPIC, signer.public_key, [forged])


def test_a_change_that_was_cut_short_is_finished_with_the_key_it_began_with(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("power cut")

    before = Signer(path).public_key
    with monkeypatch.context() as cut:
        cut.setattr("broker.signing.publish_file", fail)
        with pytest.raises(Exception, match="cannot be changed: power cut; it is as it was"):
            succeed(path, TOPIC)
    # The chain names a successor that does not sign yet.
    assert unseal(TOPIC, Signer(path).seal(TOPIC, ORDER), before) == ORDER
    coming = Signer(path.with_suffix(".next")).public_key
    assert succeed(path, TOPIC) == (before, coming)
    assert unseal(TOPIC, Signer(path).seal(TOPIC, ORDER), before) == ORDER
    assert len(read_chain(path, coming)) == 1


def test_the_chain_has_an_end_and_the_newest_keys_are_in_it(path: Path) -> None:
    for _ in range(MAX_SUCCESSIONS + 2):
        before, after = succeed(path, TOPIC)
    sealed = decode(SignedAnnouncement, Signer(path).seal(TOPIC, ORDER))
    assert len(sealed.successions) == MAX_SUCCESSIONS
    assert (sealed.successions[-1].before, sealed.successions[-1].after) == (before, after)


def test_the_new_key_is_for_its_owner_alone(path: Path) -> None:
    succeed(path, TOPIC)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["signing.chain", "signing.key"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_new_key_belongs_to_whom_the_old_one_did(path: Path) -> None:
    os.chown(path, 12345, 12346)
    succeed(path, TOPIC)
    for file in (path, path.with_suffix(".chain")):
        assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346)


@pytest.mark.parametrize("content", ["nonsense", "a b", "g g g", f"{'ab' * 32} {'cd' * 32} 00"])
def test_a_chain_that_cannot_be_read_is_told(path: Path, content: str) -> None:
    path.with_suffix(".chain").write_text(content)
    with pytest.raises(ConfigError, match=r"signing.chain cannot be used: it holds no successions; restore"):
        Signer(path)
