import threading
from pathlib import Path

import pytest

from broker.enrolment import Token
from broker.settings import BrokerSettings
from edge_agent import enrolling
from edge_agent.check import PARTS
from edge_agent.data.settings import NpzSettings
from edge_agent.enrolling import enrol
from edge_agent.identity import Identity
from edge_agent.renewing import require_ours
from edge_agent.settings import AgentSettings, EnrolmentSettings
from host.certificates import new_key
from host.errors import ConfigError, WireError
from host.exits import ExitCode
from host.notify import Notifier
from tests.deploy.registrar.chains import chain_for

NOWHERE = "mqtts://127.0.0.1:1"
LATER_UNIX_S = 2_000_000_000.0


def settings(tmp_path: Path, *, enrols: bool = True) -> AgentSettings:
    return AgentSettings(
        device="pi-1",
        broker=BrokerSettings(url=NOWHERE),
        data=NpzSettings(path=Path("unused.npz")),
        state_folder=tmp_path,
        enrolment=EnrolmentSettings(url=NOWHERE, token_file=tmp_path / "token") if enrols else None,
    )


def try_to_enrol(given: AgentSettings) -> None:
    enrol(given, Notifier({}), threading.Event())


def certified(given: AgentSettings, token: str) -> Identity:
    identity = Identity(given.state_folder, given.broker)
    identity.pending_key()
    identity.adopt(b"a certificate", token=token)
    return identity


def test_without_enrolment_in_the_settings_nothing_is_done(tmp_path: Path) -> None:
    try_to_enrol(settings(tmp_path, enrols=False))
    assert list(tmp_path.iterdir()) == []


def test_with_neither_token_nor_certificate_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"token_file .*token is not there.*make a token"):
        try_to_enrol(settings(tmp_path))


def test_a_device_that_is_not_enrolled_yet_is_no_fault(tmp_path: Path) -> None:
    code, text = PARTS["broker"](settings(tmp_path))
    assert code is ExitCode.OK
    assert "not enrolled yet" in text


def test_a_damaged_token_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token_12")
    with pytest.raises(ConfigError, match="token cannot be used: it holds no whole token"):
        try_to_enrol(settings(tmp_path))


@pytest.mark.parametrize("empty", [None, "\n"], ids=["no file", "empty line"])
def test_a_certificate_needs_no_token(empty: str | None, tmp_path: Path) -> None:
    given = settings(tmp_path)
    if empty is not None:
        (tmp_path / "token").write_text(empty)
    with pytest.raises(ConfigError, match="token is not there"):
        try_to_enrol(given)
    certified(given, Token.new().id)
    try_to_enrol(given)


def test_a_used_token_that_a_power_cut_left_is_removed(tmp_path: Path) -> None:
    given, token = settings(tmp_path), Token.new()
    certified(given, token.id)
    for name in ("token", "token.password"):
        (tmp_path / name).write_text(token.text())
    try_to_enrol(given)
    assert not (tmp_path / "token").exists()
    assert not (tmp_path / "token.password").exists()


def test_a_token_that_gets_no_answer_does_not_hold_up_a_device_with_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolling, "PATIENCE_S", 0.1)
    given = settings(tmp_path)
    identity = certified(given, Token.new().id)
    (tmp_path / "token").write_text(Token.new().text())
    try_to_enrol(given)
    assert Identity(tmp_path, given.broker).record.current == identity.record.current
    assert (tmp_path / "token").exists()
    assert not (tmp_path / "token.password").exists()


def test_a_device_that_waits_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(Token.new().text())
    stopping = threading.Event()
    stopping.set()
    enrol(settings(tmp_path), Notifier({}), stopping)
    assert (tmp_path / "token").exists()
    assert Identity(tmp_path, settings(tmp_path).broker).record.pending is not None


def test_enrolment_over_an_open_line_is_refused() -> None:
    with pytest.raises(ValueError, match="is not encrypted: use mqtts://"):
        EnrolmentSettings(url="mqtt://127.0.0.1:1", token_file=Path("token"))


def test_only_a_whole_certificate_for_our_key_and_name_is_ours() -> None:
    key = new_key()
    ours = chain_for(key, "pi-1", LATER_UNIX_S)
    require_ours(ours, key, "pi-1")
    require_ours(ours + chain_for(new_key(), "authority", LATER_UNIX_S), key, "pi-1")
    for chain in (
        chain_for(new_key(), "pi-1", LATER_UNIX_S),
        chain_for(key, "pi-2", LATER_UNIX_S),
        ours + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ours[:-40],
        b"nothing",
    ):
        with pytest.raises(WireError, match="the registrar's"):
            require_ours(chain, key, "pi-1")
