from pathlib import Path

import pytest

from broker.enrolment import Token
from deploy.registrar.tokens import KEPT_S, Renewed, Tokens
from host.errors import ConfigError, DataError, StorageError

NOW = 1_800_000_000.0
KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.sqlite")


def test_a_token_is_found_by_its_id(tokens: Tokens) -> None:
    token = tokens.make("pi-1", 60, NOW)
    row = tokens.find(token.id)
    assert row is not None
    assert (row.device, row.public_key, row.expires_unix_s) == ("pi-1", token.public_key, NOW + 60)
    assert (row.claimed_by, row.chain, row.withdrawn) == (None, None, False)
    assert tokens.find(Token.new().id) is None


def test_the_secret_half_is_not_in_the_register(tokens: Tokens, tmp_path: Path) -> None:
    token = tokens.make("pi-1", 60, NOW)
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token.id.encode() in everything
    assert token.seed not in everything
    assert token.seed.hex().encode() not in everything


@pytest.mark.parametrize("device", ["aggregator", "registrar", "Pi", "", "a b", "pi-1\n", "+"])
def test_only_a_device_can_have_a_token(tokens: Tokens, device: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a device's id"):
        tokens.make(device, 60, NOW)
    assert tokens.all() == []


def test_a_token_is_claimed_by_one_key_as_often_as_it_likes(tokens: Tokens) -> None:
    token = tokens.make("pi-1", 60, NOW)
    tokens.claim(token.id, KEY)
    tokens.claim(token.id, KEY)
    with pytest.raises(StorageError, match="was claimed or withdrawn meanwhile"):
        tokens.claim(token.id, OTHER)
    tokens.keep_enrolment(token.id, b"chain")
    row = tokens.find(token.id)
    assert row is not None
    assert (row.claimed_by, row.chain) == (KEY, b"chain")


def test_a_new_token_withdraws_the_open_one_of_the_device_only(tokens: Tokens) -> None:
    old, other = tokens.make("pi-1", 60, NOW), tokens.make("pi-2", 60, NOW)
    new = tokens.make("pi-1", 60, NOW)
    assert {row.id: row.withdrawn for row in tokens.all()} == {old.id: True, other.id: False, new.id: False}
    with pytest.raises(StorageError):
        tokens.claim(old.id, KEY)


def test_a_used_token_is_not_withdrawn(tokens: Tokens) -> None:
    token = tokens.make("pi-1", 60, NOW)
    tokens.claim(token.id, KEY)
    tokens.keep_enrolment(token.id, b"chain")
    assert tokens.withdraw("pi-1") == 0
    tokens.make("pi-1", 60, NOW)
    assert tokens.withdraw("pi-1") == 1


def test_tokens_that_expired_long_ago_are_forgotten(tokens: Tokens) -> None:
    old = tokens.make("pi-1", 60, NOW)
    tokens.make("pi-2", 60, NOW + 60 + KEPT_S)
    assert tokens.find(old.id) is not None
    tokens.make("pi-3", 60, NOW + 61 + KEPT_S)
    assert tokens.find(old.id) is None


def test_the_last_renewal_of_a_device_is_kept(tokens: Tokens) -> None:
    assert tokens.renewed("pi-1") is None
    tokens.keep_renewal("pi-1", KEY, b"one")
    tokens.keep_renewal("pi-1", OTHER, b"two")
    assert tokens.renewed("pi-1") == Renewed(OTHER, b"two")


def test_a_register_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "tokens.sqlite").write_text("no database, and long enough to be sure of that")
    with pytest.raises(StorageError, match=r"register of tokens .*tokens\.sqlite cannot be used"):
        Tokens(tmp_path / "tokens.sqlite")


def test_a_token_is_read_from_its_own_text() -> None:
    token = Token.new()
    assert Token.read(token.text()) == token
    assert token.seed.hex() not in repr(token)


@pytest.mark.parametrize("cut", [1, 10, 64, 65, 66])
def test_a_token_that_was_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(DataError, match="holds no whole token"):
        Token.read(Token.new().text()[: -1 - cut])
