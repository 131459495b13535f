import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.command.app import app
from deploy.home.home import Home
from deploy.trust.replacement import check_bundle, renew_bundle
from host.certificates import belongs, not_after, serial
from host.errors import ConfigError, DataError
from host.exits import ExitCode
from host.files import write_atomic
from tests.deploy.trust.ground import run


def test_without_a_broker_the_register_lists_devices_and_says_so(home: Home) -> None:
    run(home, "enroll", "pi-1", "--tag", "roof")
    _, said = run(home, "devices")
    until = not_after((home.devices / "pi-1" / "device.crt").read_bytes())
    assert "pi-1" in said
    assert f"{until:%Y-%m-%d}" in said
    assert "the broker cannot be asked" in said


def test_a_federation_without_devices_says_how_to_get_one(home: Home) -> None:
    assert "no device yet: midge enroll ID" in run(home, "devices")[1]


def test_the_list_is_json_for_tools(home: Home) -> None:
    run(home, "enroll", "pi-1")
    done = CliRunner().invoke(app, ["devices", "--json", "--home", str(home.root)])
    (row,) = json.loads(done.stdout)
    assert (row["device"], row["revoked"], row["certificates"]) == ("pi-1", None, 1)


def test_what_could_not_be_done_is_in_the_exit_status_and_the_register_is_right_all_the_same(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.trust.revocation.ASKED_S", 0.2)
    run(home, "enroll", "pi-1")
    code, said = run(home, "revoke", "pi-1")
    assert code == ExitCode.FAILED
    assert "no mosquitto runs with -c" in said
    assert "when it runs: midge exclude pi-1" in said
    assert home.authority().register.of("pi-1")[0].revoked_at is not None


def test_a_stranger_cannot_be_revoked(home: Home) -> None:
    with pytest.raises(DataError, match="no certificate was ever issued to 'pi-9'"):
        run(home, "revoke", "pi-9")


def test_a_replacement_has_another_key_and_the_same_settings(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for asked in ("deploy.trust.revocation.ASKED_S", "deploy.trust.replacement.ASKED_S"):
        monkeypatch.setattr(asked, 0.2)
    run(home, "enroll", "pi-1", "--tag", "roof")
    bundle = home.devices / "pi-1"
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    code, said = run(home, "replace", "pi-1", "--no-broker")
    assert code == ExitCode.OK, said
    assert "midge admit pi-1" in said
    after = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert after["agent.toml"] == before["agent.toml"]
    assert after["device.key"] != before["device.key"]
    assert belongs(after["device.crt"], after["device.key"])
    revoked = {row.serial for row in home.authority().register.of("pi-1") if row.revoked_at is not None}
    assert serial(before["device.crt"]) in revoked
    assert serial(after["device.crt"]) not in revoked
    assert [path.name for path in home.devices.iterdir()] == ["pi-1"]


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_a_replacement_that_was_cut_short_is_made_whole_by_another(
    home: Home, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(home, "enroll", "pi-1", "--tag", "roof")
    bundle, settings = home.devices / "pi-1", (home.devices / "pi-1" / "agent.toml").read_text()
    calls: list[Path] = []

    def cut(path: Path, content: bytes, mode: int | None = None) -> None:
        if len(calls) == written:
            raise KeyboardInterrupt
        calls.append(path)
        write_atomic(path, content, mode=mode)

    with monkeypatch.context() as patched:
        patched.setattr("deploy.trust.replacement.write_atomic", cut)
        with pytest.raises(KeyboardInterrupt):
            renew_bundle(home, home.authority(), "pi-1")
    check_bundle(home, "pi-1")
    renew_bundle(home, home.authority(), "pi-1")
    assert (bundle / "agent.toml").read_text() == settings
    assert belongs((bundle / "device.crt").read_bytes(), (bundle / "device.key").read_bytes())
    assert (bundle / "device.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.devices.iterdir()] == ["pi-1"]


def test_nothing_is_revoked_for_a_replacement_that_has_no_bundle(home: Home) -> None:
    run(home, "enroll", "pi-1")
    (home.devices / "pi-1" / "agent.toml").unlink()
    with pytest.raises(ConfigError, match=r"has no agent.toml to keep: midge revoke pi-1, then"):
        run(home, "replace", "pi-1", "--no-broker")
    assert home.authority().register.of("pi-1")[0].revoked_at is None
