import re
import tomllib
from pathlib import Path

import pytest

from aggregator.settings import AggregatorSettings
from broker.accounts import users
from broker.conf import LOOPBACK
from broker.signing import Signer
from deploy.command.options import OperatorSettings
from deploy.home.create import broker_texts, complete, create, outdated
from deploy.home.home import Home
from host.errors import ConfigError
from host.settings import load_settings

HOSTS = {"hosts": ["broker.example", "192.0.2.7"]}
KEYS = ("pki/root.key", "pki/intermediate.key", "broker/broker.key", "aggregator/signing.key")
PASSWORDS = tuple(f"{role}/password" for role in ("aggregator", "registrar", "operator", "monitor"))
ACCOUNTS = ("broker/accounts", "broker/tokens", "broker/viewers")


def make(folder: Path, **given: object) -> Home:
    home = create(folder, {**HOSTS, **given})
    complete(home)
    return home


def content(home: Home) -> dict[str, bytes]:
    files = [path for path in home.root.rglob("*") if path.is_file()]
    return {str(path.relative_to(home.root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make(tmp_path_factory.mktemp("federation") / "home", name="lab", prefix="hall/a")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make(tmp_path_factory.mktemp("other") / "home")


def test_what_is_there_stays_as_it_is(made: Home) -> None:
    before = content(made)
    assert complete(create(made.root, {})) == []
    assert content(made) == before


def test_what_is_missing_is_made(other: Home) -> None:
    for name in (
        "broker/broker.crt",
        "broker/acl",
        "broker/crl.pem",
        "broker/accounts",
        "operator/operator.toml",
        "aggregator/aggregator.toml",
    ):
        before = content(other)
        (other.root / name).unlink()
        assert complete(other) == [other.root / name]
        after = content(other)
        assert after.keys() == before.keys()
        may_differ = {name, "pki/certificates.sqlite"}
        assert all(after[kept] == before[kept] for kept in after.keys() - may_differ)


def test_secrets_are_for_their_owner_alone(made: Home) -> None:
    for name in (*KEYS, *PASSWORDS, *ACCOUNTS):
        assert (made.root / name).stat().st_mode & 0o777 == 0o600, name
    assert made.root.stat().st_mode & 0o777 == 0o700


def test_no_two_homes_share_a_secret(made: Home, other: Home) -> None:
    for name in (*KEYS, *PASSWORDS):
        assert (made.root / name).read_bytes() != (other.root / name).read_bytes()


def test_each_listener_that_other_machines_reach_speaks_tls(made: Home) -> None:
    blocks = (made.broker / "mosquitto.conf").read_text().split("\n\nlistener ")[1:]
    plain = [block for block in blocks if "\ncertfile " not in block]
    assert len(blocks) == 4
    assert [block.splitlines()[0] for block in plain] == [f"1883 {LOOPBACK}"]
    assert all("allow_anonymous false" in block for block in blocks)


def test_accounts_are_where_they_may_connect(made: Home) -> None:
    assert users(made.broker / "accounts") == ["aggregator", "registrar", "operator", "monitor"]
    assert users(made.broker / "viewers") == ["monitor"]
    assert users(made.broker / "tokens") == []


def test_settings_files_are_read_from_wherever_a_service_starts(
    made: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    aggregator = load_settings(AggregatorSettings, made.root / "aggregator/aggregator.toml", {}, {})
    assert aggregator.folder == made.root / "aggregator"
    assert Signer(aggregator.signing_key).public_key == made.aggregator_key()
    for name in ("operator", "monitor"):
        account = load_settings(OperatorSettings, made.root / name / f"{name}.toml", {}, {}).broker
        assert account.password() == (made.root / name / "password").read_text()
        assert account.topics.root == "hall/a/v1/lab"


def test_the_aggregators_file_has_every_setting_and_a_task_to_uncomment(made: Home) -> None:
    text = (made.root / "aggregator/aggregator.toml").read_text()
    all_of_it = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") else line
        for line in text.splitlines()
        if not line.endswith(" =")
    )
    settings = AggregatorSettings.model_validate(tomllib.loads(all_of_it))
    assert settings.heartbeat_s == AggregatorSettings.model_fields["heartbeat_s"].default
    assert settings.tasks["digits"].settings["rounds"] == 10
    tables = {"broker", "tasks", "device_keys"}
    assert list(settings.device_keys) == ["pi-1"]
    assert all(f"{name} =" in text for name in AggregatorSettings.model_fields if name not in tables)
    assert "\nsealed = false\n" in text


def test_files_of_another_version_are_told_and_kept(other: Home) -> None:
    assert outdated(other) == []
    (other.broker / "acl").write_text("topic read #\n")
    assert outdated(other) == [other.broker / "acl"]
    assert complete(other) == []
    assert (other.broker / "acl").read_text() == "topic read #\n"


def test_what_depends_on_the_machine_is_no_other_version(other: Home) -> None:
    path = other.broker / "mosquitto.conf"
    text = path.read_text()
    before = outdated(other)
    path.write_text(re.sub(r"(?m)^memory_limit .*$", "memory_limit 1", text).replace("user root\n", ""))
    assert outdated(other) == before
    path.write_text(text.replace("require_certificate true\n", ""))
    assert path in outdated(other)
    path.write_text(text)


def test_the_brokers_files_can_be_written_for_another_place(made: Home) -> None:
    text = broker_texts(made, Path("/etc/midge/broker"), Path("/var/lib/midge-broker"))["mosquitto.conf"]
    assert str(made.root) not in text
    assert "certfile /etc/midge/broker/broker.crt" in text
    assert "persistence_location /var/lib/midge-broker/" in text


def test_a_home_is_made_once_for_one_federation(made: Home) -> None:
    for given in ({"name": "other"}, {"hosts": ["elsewhere"]}, {"prefix": "x"}):
        with pytest.raises(ConfigError, match=r"federation\.toml says otherwise"):
            create(made.root, given)
    assert create(made.root, {**HOSTS, "name": "lab"}) == made


def test_a_home_needs_a_name_that_devices_reach_the_broker_by(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --host"):
        create(tmp_path / "home", {})
    with pytest.raises(ConfigError, match="hosts"):
        create(tmp_path / "home", {"hosts": ["mqtt://broker"]})
    assert not (tmp_path / "home").exists()


def test_a_folder_that_is_no_home_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no federation's home: name it with --home"):
        Home.open(tmp_path)


def test_a_home_without_its_root_key_is_whole(other: Home) -> None:
    (other.pki / "root.key").unlink()
    (other.broker / "broker.crt").unlink()
    (other.broker / "broker.key").unlink()
    assert complete(other) == [other.broker / "broker.key", other.broker / "broker.crt"]


def test_home_assistants_rights_are_given_where_the_aggregator_is_to_describe_devices(tmp_path: Path) -> None:
    home = make(tmp_path / "home", name="lab")
    right = "homeassistant/device/+/config"
    assert right not in (home.broker / "acl").read_text()
    settings = home.root / "aggregator/aggregator.toml"
    settings.write_text(settings.read_text().replace("#home_assistant = false", "home_assistant = true"))
    assert outdated(home) == [home.broker / "acl", home.broker / "viewers.acl"]
    for path in outdated(home):
        path.unlink()
    complete(home)
    assert f"\ntopic write {right}\n" in (home.broker / "acl").read_text()
    assert f"\npattern read {right}\n" in (home.broker / "viewers.acl").read_text()
    assert "homeassistant" not in (home.broker / "enrolment.acl").read_text()


def test_a_fault_in_the_aggregators_settings_is_told_before_any_right_is_given(other: Home) -> None:
    settings = other.root / "aggregator/aggregator.toml"
    text = settings.read_text()
    settings.write_text("home_assistant = 7\n")
    with pytest.raises(ConfigError, match="home_assistant: input should be a valid boolean"):
        broker_texts(other, Path("/etc/midge/broker"), Path("/var/lib/midge-broker"))
    settings.write_text(text)
