from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.enrolment import Token
from deploy.command.app import app
from deploy.home.home import TOKENS, Home
from edge_agent.settings import AgentSettings
from host.errors import ConfigError
from host.settings import load_settings
from tests.deploy.home.federation import make_home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("enroll") / "home")


def midge(*words: str) -> str:
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_token_bundle_has_no_key_and_no_certificate(home: Home) -> None:
    said = midge("enroll", "pi-1", "--home", str(home.root), "--token", "--expires", "2h")
    bundle = home.devices / "pi-1"
    assert f"pi-1: {bundle}" in said
    assert "The broker has yet to read the tokens' accounts (SIGHUP): no mosquitto runs" in said
    assert {path.name for path in bundle.iterdir()} == {"agent.toml", "ca.crt", "token"}
    assert (bundle / "token").stat().st_mode & 0o777 == 0o600
    settings = load_settings(AgentSettings, bundle / "agent.toml", {}, {})
    assert settings.broker.certificate_file is None
    assert settings.enrolment is not None
    assert settings.enrolment.token_file == bundle / "token"
    assert settings.enrolment.url == home.federation.url(home.federation.ports.enrolment)


def test_its_token_is_known_by_its_public_half(home: Home) -> None:
    midge("enroll", "pi-2", "--home", str(home.root), "--token", "--expires", "2h")
    token = Token.read((home.devices / "pi-2" / "token").read_text())
    row = home.tokens().find(token.id)
    assert row is not None
    assert (row.device, row.public_key) == ("pi-2", token.public_key)
    kept = b"".join(
        path.read_bytes() for path in home.root.rglob("*") if path.is_file() and path.name != "token"
    )
    assert token.id.encode() in kept
    assert token.seed.hex().encode() not in kept
    assert token.password.encode() not in kept
    assert token.id in (home.broker / TOKENS).read_text()


def test_many_devices_get_a_token_each(home: Home) -> None:
    midge("enroll", "--home", str(home.root), "--count", "3", "--prefix-id", "cam-", "--token")
    tokens = {(home.devices / f"cam-{n}" / "token").read_text() for n in (1, 2, 3)}
    assert len(tokens) == 3


@pytest.mark.parametrize("words", ["0d", "7", "a week", "400d"])
def test_a_lifetime_that_is_none_is_told_before_anything_is_made(home: Home, words: str) -> None:
    with pytest.raises(ConfigError, match=r"--expires .* is no duration"):
        midge("enroll", "pi-9", "--home", str(home.root), "--token", "--expires", words)
    assert not (home.devices / "pi-9").exists()


def test_the_registrar_needs_its_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"registrar\.toml: cannot be read"):
        midge("registrar", "--config", str(tmp_path / "registrar.toml"))
