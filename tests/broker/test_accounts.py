from pathlib import Path

from broker.accounts import new_password, update_accounts, users


def test_accounts_are_added_changed_and_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    update_accounts(path, {"anna": "a", "ben": "b"})
    before = path.read_text().splitlines()
    update_accounts(path, {"ben": "other", "anna": None, "cleo": "c", "nobody": None})
    after = path.read_text().splitlines()
    assert users(path) == ["ben", "cleo"]
    assert before[1] != after[0]


def test_what_is_not_named_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    update_accounts(path, {"anna": "a"})
    before = path.read_text()
    update_accounts(path, {"ben": "b"})
    assert path.read_text().startswith(before)


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    update_accounts(tmp_path / "accounts", {"anna": "a"})
    assert (tmp_path / "accounts").stat().st_mode & 0o777 == 0o600


def test_who_reads_the_file_still_does_after_a_change(tmp_path: Path) -> None:
    path = tmp_path / "accounts"
    path.touch()
    path.chmod(0o644)
    update_accounts(path, {"anna": "a"})
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_password_is_kept_as_a_hash_with_a_salt(tmp_path: Path) -> None:
    password = new_password()
    for name in ("one", "two"):
        update_accounts(tmp_path / name, {"anna": password})
    one, two = (tmp_path / name for name in ("one", "two"))
    assert password not in one.read_text()
    assert one.read_text() != two.read_text()
