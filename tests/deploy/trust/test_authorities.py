from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.home.home import Home
from deploy.pki.succession import Stage, successor_of, trusted_roots
from deploy.trust import authorities
from deploy.trust.authorities import left_behind
from host.certificates import is_issued_by
from host.errors import ConfigError
from host.exits import ExitCode
from tests.deploy.home.federation import make_home, running
from tests.deploy.trust.ground import run


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Home]:
    home = make_home(tmp_path / "home")
    with running(home):
        yield home


def test_an_authority_is_changed_step_by_step_and_each_can_be_run_again(federation: Home) -> None:
    run(federation, "enroll", "pi-1")
    old = trusted_roots(federation.pki)
    for _ in range(2):
        code, said = run(federation, "rotate", "ca")
        assert (code, "takes certificates of both" in said) == (0, True), said
    both = trusted_roots(federation.pki)
    assert both.startswith(old)
    for trusting in (federation.broker / "ca.crt", federation.devices / "pi-1" / "ca.crt"):
        assert trusting.read_bytes() == both
    with pytest.raises(ConfigError, match="with the old authority alone are pi-1: wait until"):
        run(federation, "rotate", "ca", "--finish")
    run(federation, "replace", "pi-1", "--no-broker")
    assert "0 are with the old authority alone: --finish" in run(federation, "rotate", "ca", "--status")[1]
    assert run(federation, "rotate", "ca", "--finish")[0] == 0
    new = trusted_roots(federation.pki)
    assert (both, (federation.broker / "ca.crt").read_bytes()) == (old + new, new)
    assert "midge rotate ca begins" in run(federation, "rotate", "ca", "--status")[1]


def test_nothing_is_signed_with_an_authority_that_the_broker_does_not_trust(
    federation: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authorities, "SEEN_S", 0.5)
    # The broker goes on with the settings that it was started with.
    text = (federation.broker / "mosquitto.conf").read_text()
    (federation.broker / "elsewhere.crt").write_bytes(b"")
    (federation.broker / "mosquitto.conf").write_text(text.replace("/ca.crt", "/elsewhere.crt"))
    monkeypatch.setattr(Home, "broker", property(lambda _: federation.root / "copies"))
    (federation.root / "copies").mkdir()
    for name in ("ca.crt", "crl.pem"):
        (federation.root / "copies" / name).write_bytes(b"")
    code, said = run(
        federation, "rotate", "ca", "--broker-config", str(federation.root / "broker" / "mosquitto.conf")
    )
    assert (code, "was NOT seen to take" in said) == (ExitCode.FAILED, True), said
    assert successor_of(federation.pki)[0] is Stage.TRUSTED
    told = run(federation, "rotate", "ca", "--status")[1]
    assert (told.endswith("midge rotate ca goes on\n"), "--finish" in told) == (True, False)


def test_a_broker_that_does_not_run_is_waited_for(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    code, said = run(home, "rotate", "ca")
    assert (code, "has yet to read them: no mosquitto runs" in said) == (ExitCode.FAILED, True)
    with pytest.raises(ConfigError, match="no new authority signs yet: midge rotate ca"):
        run(home, "rotate", "ca", "--finish")


def test_who_has_no_good_certificate_is_not_left_behind(federation: Home) -> None:
    for device in ("pi-1", "pi-2"):
        run(federation, "enroll", device)
    federation.authority().revoke("pi-2")
    assert run(federation, "rotate", "ca")[0] == 0
    authority, now = federation.authority(), datetime.now(UTC)
    assert [row.name for row in left_behind(authority, now)] == ["pi-1"]
    assert left_behind(authority, now + timedelta(days=9999)) == []


def test_who_has_a_token_from_before_is_left_behind_until_it_is_used_or_withdrawn(federation: Home) -> None:
    hour_s = 3600.0
    federation.tokens().make("pi-1", 2 * hour_s, datetime.now(UTC).timestamp() - hour_s)
    assert run(federation, "rotate", "ca")[0] == 0
    run(federation, "enroll", "pi-2", "--token")
    _, said = run(federation, "rotate", "ca", "--status")
    assert ("pi-1 " in said, "pi-2 " in said, "1 are with the old" in said) == (True, False, True)
    with pytest.raises(ConfigError, match=r"alone are pi-1 \(token\): wait until"):
        run(federation, "rotate", "ca", "--finish")
    run(federation, "revoke", "pi-1")
    assert "--finish" in run(federation, "rotate", "ca", "--status")[1]
    assert run(federation, "rotate", "ca", "--finish")[0] == 0


def test_a_broker_is_certified_by_whom_everybody_trusts_until_the_end(federation: Home) -> None:
    assert run(federation, "rotate", "ca")[0] == 0
    old, new = federation.authority().issuers
    assert run(federation, "rotate", "broker")[0] == 0
    shown = (federation.broker / "broker.crt").read_bytes()
    assert is_issued_by(shown, old.intermediate)
    assert run(federation, "rotate", "ca", "--finish")[0] == 0
    shown = (federation.broker / "broker.crt").read_bytes()
    assert is_issued_by(shown, new.intermediate)
