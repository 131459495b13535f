import pytest

from broker.trust import Trust, check, fingerprints, vouch
from deploy.pki.authority import Authority
from deploy.pki.issuer import Issuer
from host.certificates import new_key, private_key
from host.errors import DataError, ForgeryError

TOPIC = "midge/v1/lab/certifier"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("old") / "pki", "lab")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("new") / "pki", "lab new")


def vouched(authority: Authority, roots: bytes, topic: str = TOPIC) -> Trust:
    issuer: Issuer = authority.issuers[0]
    return vouch(issuer.key, issuer.intermediate, topic, roots)


def test_roots_are_taken_from_an_intermediate_of_one_that_is_trusted(old: Authority, new: Authority) -> None:
    both = old.root + new.root
    check(vouched(old, both), TOPIC, old.root)
    check(vouched(old, both), TOPIC, both)
    check(vouched(new, new.root), TOPIC, both)


def test_nobody_else_is_believed(old: Authority, new: Authority) -> None:
    with pytest.raises(ForgeryError, match="of none that is trusted"):
        check(vouched(new, new.root), TOPIC, old.root)
    honest = vouched(old, old.root)
    for forged in (
        honest.model_copy(update={"roots": new.root}),
        honest.model_copy(update={"voucher": new.intermediate}),
        vouched(old, old.root, "midge/v1/other/certifier"),
        vouched(old, b"no certificate"),
    ):
        with pytest.raises(ForgeryError, match="not vouched for"):
            check(forged, TOPIC, old.root + new.root)


def test_a_device_s_certificate_vouches_for_nothing(old: Authority, new: Authority) -> None:
    key = private_key(new_key())
    leaf = old.issue_server(["127.0.0.1"], key.public_key())
    with pytest.raises(ForgeryError, match="is no intermediate"):
        check(vouch(key, leaf, TOPIC, new.root), TOPIC, old.root + old.intermediate)


def test_there_is_a_limit_to_how_many_are_trusted(old: Authority) -> None:
    with pytest.raises(ForgeryError, match="more than 4 roots"):
        check(vouched(old, old.root * 5), TOPIC, old.root)


def test_certificates_are_known_by_their_bytes_whatever_stands_around_them(old: Authority) -> None:
    (root,) = fingerprints(old.root)
    assert fingerprints(b"a remark\n" + old.root.replace(b"\n", b"\r\n") + old.intermediate)[0] == root
    assert fingerprints(b"none") == ()
    with pytest.raises(DataError):
        fingerprints(b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----")
