"""Tokens that are withdrawn or made while the broker runs: it knows at once."""

from pathlib import Path

import pytest

from broker.accounts import users
from broker.enrolment import Token
from broker.events import Refused
from broker.settings import BrokerSettings
from deploy.home.home import TOKENS, Home
from host.errors import StorageError
from host.exits import ExitCode
from tests.broker.peer import Peer
from tests.deploy.home.federation import by_password, make_home, running
from tests.deploy.trust.ground import run


@pytest.fixture
def federation(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def account(home: Home, device: str) -> BrokerSettings:
    token = Token.read((home.devices / device / "token").read_text())
    return by_password(home, home.federation.ports.enrolment, token.id, token.password)


def test_a_token_opens_the_running_broker_until_its_device_is_revoked(federation: Home) -> None:
    with running(federation):
        code, said = run(federation, "enroll", "pi-1", "--token")
        assert (code, "reads the tokens' accounts." in said) == (0, True), said
        settings = account(federation, "pi-1")
        with Peer(settings, settings.username or ""):
            pass
        assert "token until" in run(federation, "devices")[1]

        code, said = run(federation, "revoke", "pi-1")
        assert (code, "1 of pi-1 that nobody used: withdrawn" in said) == (ExitCode.OK, True), said
        peer = Peer(settings, settings.username or "")
        # One that connects before the broker read its accounts is let in once more.
        peer.until(Refused)
        peer.session.stop()
    assert users(federation.broker / TOKENS) == []
    assert "no device yet" in run(federation, "devices")[1]


def test_a_broker_elsewhere_gets_a_copy_of_the_accounts(federation: Home, tmp_path: Path) -> None:
    installed = tmp_path / "etc"
    installed.mkdir()
    text = (federation.broker / "mosquitto.conf").read_text()
    (installed / "mosquitto.conf").write_text(text.replace(str(federation.broker), str(installed)))
    for file in federation.broker.iterdir():
        if file.is_file() and file.name != "mosquitto.conf":
            (installed / file.name).write_bytes(file.read_bytes())
    _, said = run(
        federation, "enroll", "pi-1", "--token", "--broker-config", str(installed / "mosquitto.conf")
    )
    assert "has yet to read" in said
    assert (installed / TOKENS).read_bytes() == (federation.broker / TOKENS).read_bytes() != b""


def test_a_replaced_device_s_unused_token_is_withdrawn(
    federation: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for asked in ("deploy.trust.revocation.ASKED_S", "deploy.trust.replacement.ASKED_S"):
        monkeypatch.setattr(asked, 0.2)
    run(federation, "enroll", "pi-1")
    made = federation.tokens().make("pi-1", 3600, 0)
    assert "1 of pi-1 that nobody used" in run(federation, "replace", "pi-1", "--no-broker")[1]
    row = federation.tokens().find(made.id)
    assert row is not None
    assert row.withdrawn


def test_who_was_revoked_and_gets_a_token_has_to_be_admitted(federation: Home) -> None:
    run(federation, "enroll", "pi-1")
    federation.authority().revoke("pi-1")
    bundle = federation.devices / "pi-1"
    bundle.rename(bundle.with_name("old"))
    assert "midge admit pi-1" in run(federation, "enroll", "pi-1", "--token")[1]
    assert "midge admit" not in run(federation, "enroll", "pi-2", "--token")[1]


def test_a_certificate_for_a_token_that_was_withdrawn_meanwhile_is_never_told(federation: Home) -> None:
    tokens = federation.tokens()
    token = tokens.make("pi-1", 3600, 0)
    tokens.claim(token.id, "a key")
    tokens.withdraw("pi-1")
    with pytest.raises(StorageError, match="withdrawn meanwhile"):
        tokens.keep_enrolment(token.id, b"chain")
