"""One authority after the other: what is trusted and who signs at each stage, and after a power cut."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_crl

from broker.topics import Role
from deploy.pki import succession
from deploy.pki.authority import Authority
from deploy.pki.register import Register
from deploy.pki.succession import Stage, successor_of, trusted_roots
from host.certificates import certificate, new_key, private_key
from host.files import write_atomic

NOW = datetime(2030, 5, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Authority.create(tmp_path / "pki", "lab")
    return tmp_path / "pki"


def issued_by(authority: Authority) -> bytes:
    leaf = certificate(authority.issue("pi-1", Role.DEVICE, private_key(new_key()).public_key()))
    (by,) = (issuer for issuer in authority.issuers if issuer.certificate.subject == leaf.issuer)
    leaf.verify_directly_issued_by(by.certificate)
    return by.root


def lists(pem: bytes) -> list[bytes]:
    end = b"-----END X509 CRL-----\n"
    return [part + end for part in pem.split(end) if part]


def test_each_stage_trusts_and_signs_as_it_says(folder: Path) -> None:
    old = Authority.load(folder)
    assert old.roots == old.root == trusted_roots(folder)

    succession.begin(folder, "lab", NOW)
    trusted, ahead = Authority.load(folder), Authority(folder, ahead=True)
    assert trusted.roots == trusted_roots(folder) == old.root + ahead.root
    assert (issued_by(trusted), issued_by(ahead)) == (old.root, ahead.root)

    succession.sign(folder)
    signing = Authority.load(folder)
    assert signing.roots == old.root + ahead.root
    assert issued_by(signing) == ahead.root

    succession.stand_alone(folder)
    alone = Authority.load(folder)
    assert alone.roots == alone.root == trusted_roots(folder) == ahead.root

    succession.finish(folder)
    assert (successor_of(folder)[0], Authority.load(folder).roots) == (None, ahead.root)
    assert not [path.name for path in folder.iterdir() if "next" in path.name]
    assert (folder / "intermediate.key").stat().st_mode & 0o777 == 0o600


def test_a_successor_is_made_once(folder: Path) -> None:
    succession.begin(folder, "lab", NOW)
    roots = trusted_roots(folder)
    succession.begin(folder, "lab", NOW)
    assert trusted_roots(folder) == roots


@pytest.mark.parametrize("copied", [0, 1, 2, 3])
def test_an_authority_that_is_half_replaced_is_the_new_one_and_is_replaced_again(
    folder: Path, copied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    succession.begin(folder, "lab", NOW)
    succession.stand_alone(folder)
    new = Authority.load(folder).root
    calls: list[Path] = []

    def cut(path: Path, content: bytes, mode: int | None = None) -> None:
        if len(calls) == copied:
            raise KeyboardInterrupt
        calls.append(path)
        write_atomic(path, content, mode=mode)

    with monkeypatch.context() as patched:
        patched.setattr("deploy.pki.succession.write_atomic", cut)
        with pytest.raises(KeyboardInterrupt):
            succession.finish(folder)
    assert successor_of(folder)[0] is Stage.ALONE
    assert Authority.load(folder).roots == new
    succession.finish(folder)
    assert Authority.load(folder).roots == new


def test_a_root_key_that_was_taken_away_leaves_no_old_one_behind(folder: Path) -> None:
    succession.begin(folder, "lab", NOW)
    (folder / "next" / "root.key").unlink()
    succession.stand_alone(folder)
    succession.finish(folder)
    assert not (folder / "root.key").exists()


def test_both_lists_name_all_that_is_revoked(folder: Path) -> None:
    authority = Authority.load(folder)
    issued_by(authority)
    succession.begin(folder, "lab", NOW)
    both = Authority(folder, ahead=True)
    issued_by(both)
    both.revoke("pi-1")
    read = [load_pem_x509_crl(pem) for pem in lists((folder / "crl.pem").read_bytes())]
    assert [len(list(one)) for one in read] == [2, 2]
    assert len({one.issuer for one in read}) == 2
    for one, issuer in zip(read, both.issuers, strict=True):
        assert one.is_signature_valid(issuer.key.public_key())


def test_the_register_knows_whose_a_certificate_is_and_an_older_one_is_brought_up_to_date(
    folder: Path,
) -> None:
    path = folder / "certificates.sqlite"
    issued_by(Authority.load(folder))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("ALTER TABLE certificates DROP COLUMN issuer")
    authority = Authority.load(folder)
    issued_by(authority)
    assert [row.issuer for row in Register(path).all()] == ["", authority.issuer_id]
