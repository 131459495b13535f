from pathlib import Path

import pytest

from broker.tls import client_context
from deploy.home.batch import numbered, read_batch
from deploy.home.bundle import agent_settings, enrol
from deploy.home.create import complete, create
from deploy.home.home import Home
from edge_agent.settings import AgentSettings
from host.certificates import belongs, common_name
from host.errors import ConfigError
from host.settings import load_settings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("federation") / "home"
    home = create(folder, {"hosts": ["broker.example", "192.0.2.7"], "name": "lab"})
    complete(home)
    return home


def bundle(home: Home, device: str, chosen: dict[str, object] | None = None) -> Path:
    return enrol(home, home.authority(), agent_settings(home, device, chosen or {}))


def test_a_bundle_is_all_that_an_agent_needs_wherever_it_is_put(home: Home, tmp_path: Path) -> None:
    folder = bundle(home, "pi-1").rename(tmp_path / "moved")
    settings = load_settings(AgentSettings, folder / "agent.toml", {}, {})
    assert (settings.device, settings.aggregator_key) == ("pi-1", home.aggregator_key())
    assert settings.broker.url == "mqtts://broker.example:8883"
    assert settings.broker.topics == home.topics
    assert client_context(settings.broker) is not None
    certificate = (folder / "device.crt").read_bytes()
    assert belongs(certificate, (folder / "device.key").read_bytes())
    assert common_name(certificate) == "pi-1"
    assert (folder / "ca.crt").read_bytes() == (home.pki / "root.crt").read_bytes()


def test_its_file_has_every_setting(home: Home) -> None:
    text = (bundle(home, "pi-2", {"tags": ["a", "b"]}) / "agent.toml").read_text()
    fields = AgentSettings.model_fields.keys() - {"broker", "data"}
    assert all(any(line.lstrip("#").startswith(f"{name} =") for line in text.splitlines()) for name in fields)
    assert 'tags = ["a", "b"]' in text.splitlines()
    assert "#nice = 10" in text.splitlines()


def test_a_key_is_for_its_owner_alone(home: Home) -> None:
    folder = bundle(home, "pi-3")
    assert (folder / "device.key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_bundle_is_never_overwritten(home: Home) -> None:
    key = (bundle(home, "pi-4") / "device.key").read_bytes()
    with pytest.raises(ConfigError, match="pi-4 is there already"):
        bundle(home, "pi-4")
    assert (home.devices / "pi-4/device.key").read_bytes() == key
    assert len(home.authority().register.of("pi-4")) == 1


def test_nothing_is_left_of_a_bundle_that_could_not_be_made(home: Home) -> None:
    settings, authority = agent_settings(home, "pi-5", {}), home.authority()
    moved = (home.pki / "root.crt").rename(home.pki / "away")
    with pytest.raises(ConfigError, match=r"root\.crt cannot be read"):
        enrol(home, authority, settings)
    moved.rename(home.pki / "root.crt")
    assert not list(home.devices.glob("*pi-5*"))


@pytest.mark.parametrize(
    ("device", "chosen", "expected"),
    [
        ("Pi", {}, "device Pi: device: string should match pattern"),
        ("monitor", {}, "device monitor: device: 'monitor' is the name of a role"),
        ("pi-9", {"nise": "3"}, "device pi-9: nise: is not a setting; did you mean nice?"),
        ("pi-9", {"data.kind": "csv"}, "device pi-9: data.path: is missing"),
    ],
    ids=["no id", "a role", "no setting", "half a source"],
)
def test_settings_that_no_agent_would_take_are_told_at_once(
    home: Home, device: str, chosen: dict[str, object], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        agent_settings(home, device, chosen)
    assert expected in str(caught.value)


def test_a_series_goes_on_where_it_ended(home: Home) -> None:
    for device in ("s-1", "s-3"):
        bundle(home, device)
    assert numbered(home, "s-", 3) == ["s-2", "s-4", "s-5"]


def test_a_csv_file_has_a_device_a_line(tmp_path: Path) -> None:
    (tmp_path / "fleet.csv").write_text(
        "id,tags,data.kind,data.path,nice\npi-1,kitchen north,npz,/srv/a.npz,\npi-2,,,,19\n"
    )
    assert read_batch(tmp_path / "fleet.csv") == {
        "pi-1": {"tags": ["kitchen", "north"], "data.kind": "npz", "data.path": "/srv/a.npz"},
        "pi-2": {"nice": "19"},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must name the columns"),
        ("name\npi-1\n", "and id among them"),
        ("id\n", "no devices are in it"),
        ("id,nice\npi-1\n", "f.csv:2: has not as many cells"),
        ("id\npi-1,3\n", "f.csv:2: has not as many cells"),
        ("id\npi-1\npi-1\n", "f.csv:3: device pi-1 is there twice"),
        ('id\n"pi-1\n', "is no CSV"),
    ],
    ids=["empty", "no id", "no device", "too few", "too many", "twice", "open quote"],
)
def test_a_csv_file_that_cannot_be_used_is_told_with_the_line(
    tmp_path: Path, text: str, expected: str
) -> None:
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_batch(tmp_path / "f.csv")
    assert expected in str(caught.value)
