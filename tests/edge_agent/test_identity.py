from pathlib import Path

import pytest

from broker.enrolment import Token
from broker.settings import BrokerSettings
from edge_agent.identity import CONFIGURED, Identity, shred
from host.errors import ConfigError, StorageError

TOKEN = Token.new().id
URL = "mqtts://127.0.0.1:1"


def bare(tmp_path: Path) -> Identity:
    return Identity(tmp_path, BrokerSettings(url=URL))


def with_files(tmp_path: Path, certificate: bytes = b"first") -> Identity:
    (tmp_path / "bundle.crt").write_bytes(certificate)
    (tmp_path / "bundle.key").write_bytes(b"its key")
    settings = BrokerSettings(
        url=URL, certificate_file=tmp_path / "bundle.crt", key_file=tmp_path / "bundle.key"
    )
    return Identity(tmp_path, settings)


def test_without_a_certificate_there_is_none_to_show(tmp_path: Path) -> None:
    identity = bare(tmp_path)
    assert identity.record.current is None
    assert identity.broker.certificate_file is None
    with pytest.raises(StorageError, match="there is no certificate"):
        identity.pair()


def test_a_key_waits_for_its_certificate_over_restarts(tmp_path: Path) -> None:
    key = bare(tmp_path).pending_key()
    assert bare(tmp_path).pending_key() == key
    (folder,) = (tmp_path / "certificates").iterdir()
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder, folder.parent)} == {0o700}


def test_key_and_certificate_change_together(tmp_path: Path) -> None:
    identity = bare(tmp_path)
    first = identity.pending_key()
    identity.adopt(b"one", token=TOKEN)
    second = identity.pending_key()
    assert second != first
    assert identity.pair() == (first, b"one")
    identity.adopt(b"two")
    for now in (identity, bare(tmp_path)):
        assert now.pair() == (second, b"two")
        assert now.record.token == TOKEN


def test_a_certificate_that_was_written_but_not_recorded_does_not_count(tmp_path: Path) -> None:
    identity = with_files(tmp_path)
    key = identity.pending_key()
    assert identity.record.pending is not None
    (tmp_path / "certificates" / identity.record.pending / "device.crt").write_bytes(b"half")
    again = with_files(tmp_path)
    assert again.pair() == (b"its key", b"first")
    assert again.pending_key() == key


def test_the_settings_certificate_is_gone_back_to(tmp_path: Path) -> None:
    identity = with_files(tmp_path)
    assert not identity.go_back()
    identity.pending_key()
    identity.adopt(b"two")
    assert with_files(tmp_path).go_back()
    again = with_files(tmp_path)
    assert again.record.current == CONFIGURED
    assert again.pair() == (b"its key", b"first")
    assert list((tmp_path / "certificates").iterdir()) == []


def test_what_the_broker_accepted_is_not_gone_back_on(tmp_path: Path) -> None:
    identity = bare(tmp_path)
    for chain in (b"one", b"two"):
        identity.pending_key()
        identity.adopt(chain)
        identity.confirm()
    assert not identity.go_back()
    assert identity.pair()[1] == b"two"
    assert len(list((tmp_path / "certificates").iterdir())) == 1


def test_a_token_gives_nothing_to_go_back_to(tmp_path: Path) -> None:
    identity = with_files(tmp_path)
    identity.pending_key()
    identity.adopt(b"two", token=TOKEN)
    assert not identity.go_back()


def test_a_new_bundle_counts_for_more_than_what_followed_the_old_one(tmp_path: Path) -> None:
    identity = with_files(tmp_path)
    identity.pending_key()
    identity.adopt(b"two")
    assert with_files(tmp_path).pair()[1] == b"two"
    assert with_files(tmp_path, b"replaced").pair()[1] == b"replaced"


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    (tmp_path / "certificates.json").write_text('{"current": 7}')
    with pytest.raises(StorageError, match=r"certificates\.json is damaged: .* enrol with a new token"):
        bare(tmp_path)


def test_a_certificate_of_the_settings_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = BrokerSettings(url=URL, certificate_file=tmp_path / "no.crt", key_file=tmp_path / "no.key")
    with pytest.raises(ConfigError, match=r"certificate_file: .*no\.crt cannot be read"):
        Identity(tmp_path, missing)


def test_a_shredded_secret_is_overwritten_in_place(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a secret")
    (tmp_path / "same").hardlink_to(path)
    shred(path)
    assert not path.exists()
    assert (tmp_path / "same").stat().st_size == 8
    assert (tmp_path / "same").read_bytes() != b"a secret"


def with_roots(tmp_path: Path) -> Identity:
    (tmp_path / "ca.crt").write_bytes(b"of the bundle")
    return Identity(tmp_path, BrokerSettings(url=URL, ca_file=tmp_path / "ca.crt"))


def test_roots_change_with_the_certificate_and_go_back_with_it(tmp_path: Path) -> None:
    identity = with_roots(tmp_path)
    assert identity.roots() == b"of the bundle"
    identity.pending_key()
    identity.adopt(b"one", b"told")
    assert (with_roots(tmp_path).roots(), identity.roots(configured=True)) == (b"told", b"of the bundle")
    identity.pending_key()
    identity.adopt(b"two")
    assert with_roots(tmp_path).roots() == b"told"
    identity.confirm()
    identity.pending_key()
    identity.adopt(b"three", b"told later")
    assert with_roots(tmp_path).roots() == b"told later"
    assert identity.go_back()
    assert (with_roots(tmp_path).roots(), identity.pair()[1]) == (b"told", b"two")


def test_a_certificate_by_token_is_for_the_roots_that_came_with_the_token(tmp_path: Path) -> None:
    identity = with_roots(tmp_path)
    identity.pending_key()
    identity.adopt(b"one", b"told")
    identity.pending_key()
    identity.adopt(b"two", token=TOKEN)
    assert identity.roots() == b"of the bundle"


def test_without_roots_of_ours_the_system_knows(tmp_path: Path) -> None:
    identity = bare(tmp_path)
    identity.pending_key()
    identity.adopt(b"one")
    assert (identity.roots(), identity.broker.ca_file) == (b"", None)
