import fcntl
import os
import shutil
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from broker.topics import Role
from deploy.pki.authority import Authority
from host.certificates import belongs, common_name, new_key, not_after, private_key, request, serial
from host.errors import ConfigError, DataError

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", "lab", lambda: NOW)


def device(authority: Authority, name: str = "pi-1", *, days: float = 100) -> bytes:
    return authority.sign(name, Role.DEVICE, request(new_key(), name), days=days)


def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("openssl")
    assert program is not None, "these tests need openssl"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


def verify(folder: Path, leaf: bytes, purpose: str, when: datetime) -> str:
    """What openssl says of a certificate with the list of revoked ones, as the broker checks it."""
    (folder / "leaf").write_bytes(leaf)
    given = ("-CAfile", f"{folder}/root.crt", "-untrusted", f"{folder}/leaf", "-CRLfile", f"{folder}/crl.pem")
    asked = ("-x509_strict", "-crl_check", "-purpose", purpose, "-attime", str(int(when.timestamp())))
    done = openssl("verify", *given, *asked, f"{folder}/leaf")
    return (done.stdout + done.stderr).strip()


def test_a_certificate_is_for_the_key_and_name_given_and_for_clients(
    authority: Authority, tmp_path: Path
) -> None:
    key = new_key()
    issued = authority.sign("pi-1", Role.DEVICE, request(key, "aggregator"), days=100)
    assert belongs(issued, key)
    assert common_name(issued) == "pi-1"
    assert not_after(issued) == NOW + timedelta(days=100)
    assert verify(tmp_path / "pki", issued, "sslclient", NOW).endswith("OK")
    assert "unsuitable certificate purpose" in verify(tmp_path / "pki", issued, "sslserver", NOW)


def test_a_broker_is_certified_for_its_names_and_addresses_and_no_client(
    authority: Authority, tmp_path: Path
) -> None:
    names = ["broker.example", "192.0.2.7", "2001:db8::7"]
    issued = authority.issue_server(names, private_key(new_key()).public_key())
    leaf, *chain = x509.load_pem_x509_certificates(issued)
    store = Store([x509.load_pem_x509_certificate(authority.root)])
    policy = PolicyBuilder().store(store).time(NOW)
    policy.build_server_verifier(x509.DNSName("broker.example")).verify(leaf, chain)
    alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = alternatives.get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["192.0.2.7", "2001:db8::7"]
    assert "unsuitable certificate purpose" in verify(tmp_path / "pki", issued, "sslclient", NOW)


def test_a_clock_that_was_never_set_stops_nobody(authority: Authority, tmp_path: Path) -> None:
    broker = authority.issue_server(["broker.example"], private_key(new_key()).public_key())
    for when in (datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC)):
        assert verify(tmp_path / "pki", broker, "sslserver", when).endswith("OK")
        assert verify(tmp_path / "pki", device(authority), "sslclient", when).endswith("OK")


def test_by_a_clock_that_must_be_wrong_nothing_is_certified_and_the_list_still_lasts(
    authority: Authority, tmp_path: Path
) -> None:
    unset = datetime(1970, 1, 2, tzinfo=UTC)
    issued = device(authority)
    lost = Authority.load(tmp_path / "pki", lambda: unset)
    with pytest.raises(ConfigError, match="says 1970-01-02, and it is 2030-05-01 at least: set it"):
        device(lost)
    lost.revoke("pi-1")
    assert "certificate revoked" in verify(tmp_path / "pki", issued, "sslclient", NOW)
    other = device(authority, "pi-2", days=5000)
    assert verify(tmp_path / "pki", other, "sslclient", NOW + timedelta(days=3640)).endswith("OK")
    with pytest.raises(ConfigError, match="says 1970-01-02, and it is 2026-01-01 at least"):
        Authority.create(tmp_path / "other", "lab", lambda: unset)
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]


def test_a_certificate_ends(authority: Authority, tmp_path: Path) -> None:
    issued = device(authority, days=1)
    assert "certificate has expired" in verify(tmp_path / "pki", issued, "sslclient", NOW + timedelta(days=2))


def test_no_certificate_outlives_its_issuer(authority: Authority) -> None:
    assert not_after(device(authority, days=30_000)) == not_after(authority.intermediate)


def test_a_revoked_certificate_is_refused_and_others_are_not(authority: Authority, tmp_path: Path) -> None:
    stolen, replaced, other = device(authority), device(authority), device(authority, "pi-2")
    revoked = authority.revoke("pi-1")
    assert [row.serial for row in revoked] == [serial(stolen), serial(replaced)]
    for leaf in (stolen, replaced):
        assert "certificate revoked" in verify(tmp_path / "pki", leaf, "sslclient", NOW)
    assert verify(tmp_path / "pki", other, "sslclient", NOW).endswith("OK")


def test_one_certificate_of_several_is_revoked_by_its_serial_number(
    authority: Authority, tmp_path: Path
) -> None:
    old, new = device(authority), device(authority)
    authority.revoke(serial(old))
    assert "certificate revoked" in verify(tmp_path / "pki", old, "sslclient", NOW)
    assert verify(tmp_path / "pki", new, "sslclient", NOW).endswith("OK")


def test_an_older_register_trusts_nobody_again(authority: Authority, tmp_path: Path) -> None:
    folder, copy = tmp_path / "pki", tmp_path / "broker.pem"
    known = device(authority)
    backup = (folder / "certificates.sqlite").read_bytes()
    forgotten = device(authority, "pi-2")
    for name in ("pi-1", "pi-2"):
        authority.revoke(name)
    copy.write_bytes(authority.crl())
    (folder / "certificates.sqlite").write_bytes(backup)
    (folder / "crl.pem").unlink()
    (tmp_path / "other.pem").write_bytes(
        Authority.create(tmp_path / "other", "lab").crl() + b"-----BEGIN X509"
    )
    restored = Authority.load(folder, lambda: NOW)
    with restored.listed(copy, tmp_path / "other.pem", tmp_path / "none"):
        pass
    for leaf in (known, forgotten):
        assert "certificate revoked" in verify(folder, leaf, "sslclient", NOW)
    assert restored.is_revoked("pi-1", serial(known))
    assert len(restored.register.all()) == 2
    restored.crl()
    assert len(restored.register.all()) == 2


def test_nobody_makes_a_list_while_another_is_put_in_place(authority: Authority, tmp_path: Path) -> None:
    device(authority)
    folder = os.open(tmp_path / "pki", os.O_RDONLY)
    with authority.listed(), pytest.raises(BlockingIOError):
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    revoking = threading.Thread(target=authority.revoke, args=("pi-1",))
    revoking.start()
    while authority.register.of("pi-1")[0].revoked_at is None:
        assert revoking.is_alive()
    before = (tmp_path / "pki/crl.pem").read_bytes()
    assert not list(x509.load_pem_x509_crl(before))
    os.close(folder)
    revoking.join()
    assert list(x509.load_pem_x509_crl((tmp_path / "pki/crl.pem").read_bytes()))


def test_a_replacement_after_revocation_is_good(authority: Authority, tmp_path: Path) -> None:
    device(authority)
    authority.revoke("pi-1")
    assert authority.revoke("pi-1") == []
    assert verify(tmp_path / "pki", device(authority), "sslclient", NOW).endswith("OK")


def test_what_was_never_issued_cannot_be_revoked(authority: Authority) -> None:
    with pytest.raises(DataError, match="'pi-9' was ever issued"):
        authority.revoke("pi-9")


def test_the_list_is_good_for_ten_years_without_being_renewed(authority: Authority, tmp_path: Path) -> None:
    issued = device(authority, days=5000)
    assert verify(tmp_path / "pki", issued, "sslclient", NOW + timedelta(days=3640)).endswith("OK")


def test_no_name_passes_from_one_role_to_another(authority: Authority) -> None:
    key = private_key(new_key()).public_key()
    for name in ("aggregator", "registrar", "enrolment", "broker"):
        with pytest.raises(ConfigError, match="is the name of a role"):
            authority.issue(name, Role.DEVICE, key)
    authority.issue("anna", Role.OPERATOR, key)
    with pytest.raises(ConfigError, match="certificate of role operator"):
        authority.issue("anna", Role.DEVICE, key)
    authority.issue("pi-1", Role.DEVICE, key)
    with pytest.raises(ConfigError, match="certificate of role device"):
        authority.issue("pi-1", Role.OPERATOR, key)


def test_signing_needs_no_root_key_and_the_register_stays(authority: Authority, tmp_path: Path) -> None:
    first = device(authority)
    (tmp_path / "pki/root.key").unlink()
    again = Authority.load(tmp_path / "pki", lambda: NOW)
    second = device(again, "pi-2")
    rows = [(row.serial, row.name, row.role, row.not_after) for row in again.register.all()]
    assert rows == [
        (serial(first), "pi-1", "device", not_after(first)),
        (serial(second), "pi-2", "device", not_after(second)),
    ]


def test_keys_are_for_their_owner_alone(authority: Authority, tmp_path: Path) -> None:
    assert authority.root
    for name in ("root.key", "intermediate.key"):
        assert (tmp_path / "pki" / name).stat().st_mode & 0o777 == 0o600


def test_an_authority_is_never_made_twice(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is one, or what is left of one"):
        Authority.create(tmp_path / "pki", "lab")
    assert authority.root == (tmp_path / "pki/root.crt").read_bytes()


def test_a_missing_or_foreign_file_is_told(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    (folder / "intermediate.key").write_bytes(new_key())
    with pytest.raises(ConfigError, match=r"intermediate\.crt is not for intermediate\.key"):
        Authority.load(folder)
    (folder / "intermediate.crt").write_bytes(b"")
    with pytest.raises(ConfigError, match="it is no certificate"):
        Authority.load(folder)
    (folder / "intermediate.key").unlink()
    with pytest.raises(ConfigError, match=r"intermediate\.key cannot be read"):
        Authority.load(folder)
    assert authority.intermediate
