import stat
from pathlib import Path

import pytest

from deploy.dashboard.door import (
    ATTEMPT_EVERY_S,
    FREE_ATTEMPTS,
    MAX_ADDRESSES,
    Attempts,
    Door,
    digest_of,
    kept_password,
    kept_secret,
    open_folder,
    read_password,
)
from host.errors import ConfigError

SECRET = b"s" * 32


def tried(attempts: Attempts, address: str, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        attempts.failed(address, now)


def test_after_five_wrong_passwords_an_address_waits_and_others_do_not() -> None:
    attempts = Attempts()
    tried(attempts, "a", FREE_ATTEMPTS - 1)
    assert attempts.wait_s("a", 0.0) == 0
    tried(attempts, "a", 1)
    assert attempts.wait_s("a", 0.0) == ATTEMPT_EVERY_S
    assert attempts.wait_s("b", 0.0) == 0
    assert attempts.wait_s("a", ATTEMPT_EVERY_S) == 0
    tried(attempts, "a", 1, ATTEMPT_EVERY_S)
    assert attempts.wait_s("a", ATTEMPT_EVERY_S) == ATTEMPT_EVERY_S


def test_no_more_than_a_thousand_addresses_are_remembered_and_none_of_them_is_let_off() -> None:
    attempts = Attempts()
    for number in range(MAX_ADDRESSES):
        tried(attempts, f"a{number}", FREE_ATTEMPTS)
    assert attempts.wait_s("one more", 0.0) > 0
    assert attempts.wait_s("a0", 0.0) > 0
    assert attempts.wait_s("one more", FREE_ATTEMPTS * ATTEMPT_EVERY_S) == 0


def test_only_the_password_opens_and_only_its_own_ticket_admits() -> None:
    door = Door(digest_of(b"right"), SECRET)
    assert door.opens("right", "a", 0.0)
    assert not door.opens("wrong", "a", 0.0)
    assert not door.opens("", "a", 0.0)
    ticket = door.ticket()
    assert door.admits(ticket)
    assert not door.admits(ticket[:-1] + ("A" if ticket[-1] != "A" else "B"))
    assert not door.admits(None)
    assert not Door(digest_of(b"another"), SECRET).admits(ticket)
    assert not Door(digest_of(b"right"), b"t" * 32).admits(ticket)


def test_wrong_passwords_make_wait() -> None:
    door = Door(digest_of(b"right"), SECRET)
    for _ in range(FREE_ATTEMPTS):
        assert not door.opens("wrong", "a", 0.0)
    assert door.wait_s("a", 0.0) > 0


def test_a_password_is_made_once_shown_once_and_kept_as_a_digest_for_its_owner(tmp_path: Path) -> None:
    digest, made = kept_password(tmp_path, renew=False)
    assert made is not None
    assert digest == digest_of(made.encode())
    assert kept_password(tmp_path, renew=False) == (digest, None)
    renewed, other = kept_password(tmp_path, renew=True)
    assert (renewed != digest, other != made) == (True, True)
    assert kept_secret(tmp_path) == kept_secret(tmp_path)
    for name in ("password.sha256", "secret"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert made.encode() not in (tmp_path / name).read_bytes()


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 2000], ids=["empty", "a-line-end", "too-long"])
def test_a_file_that_holds_no_password_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="has to hold a password"):
        read_password(path)
    path.write_bytes(b"fine\n")
    assert read_password(path) == digest_of(b"fine")


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere cannot be read"):
        read_password(tmp_path / "nowhere")


def test_a_state_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    open_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="others may write"):
        open_folder(folder)
