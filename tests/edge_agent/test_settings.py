from pathlib import Path

import pytest

from broker.names import RESERVED_IDS
from edge_agent.data.settings import CsvSettings
from edge_agent.settings import AgentSettings
from host.errors import ConfigError
from host.settings import load_settings

GOOD = """
device = "pi-1"
state_folder = "/tmp/agent"
tags = ["kitchen"]

[broker]
url = "mqtts://broker.example"
federation = "lab"

[data]
kind = "csv"
path = "readings.csv"
target = "power"
"""


def load(tmp_path: Path, text: str, **overrides: str) -> AgentSettings:
    path = tmp_path / "agent.toml"
    path.write_text(text)
    return load_settings(AgentSettings, path, overrides, {})


def test_a_settings_file_is_read_with_defaults_for_the_rest(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert (settings.device, settings.tags, settings.nice) == ("pi-1", ("kitchen",), 10)
    assert settings.broker.topics.root == "midge/v1/lab"
    assert isinstance(settings.data, CsvSettings)
    assert (settings.keep_trainer_warm, settings.trainer_idle_s) == (True, 600)
    assert (settings.trainer_memory_bytes, settings.trainer_silence_s) == (None, 600)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"pi-1"', '"Pi 1"'), "device: string should match pattern '^[a-z0-9][a-z0-9-]{0,31}$', not 'Pi 1'"),
        (('"pi-1"', '"operator"'), "device: 'operator' is the name of a role, choose another id"),
        (("mqtts:", "http:"), "broker.url: broker url 'http://broker.example' must begin with"),
        (("federation", "federatoin"), "broker.federatoin: is not a setting; did you mean federation?"),
        (("target", "traget"), "data.target: is missing"),
        (('"csv"', '"xls"'), "data: input tag 'xls' found using 'kind' does not match"),
        (("tags", "nice = 20\ntags"), "nice: input should be less than or equal to 19, not 20"),
        (("tags", "trainer_idle_s = 0\ntags"), "trainer_idle_s: input should be greater than 0, not 0"),
        (("tags", "trainer_memory_bytes = 4096\ntags"), "trainer_memory_bytes: input should be greater"),
        (('["kitchen"]', '[""]'), "tags.0: string should have at least 1 character, not ''"),
        (("[data]", "[date]"), "data: is missing"),
        (
            ("tags", 'aggregator_key = "ab"\ntags'),
            "aggregator_key: string should match pattern '^[0-9a-f]{64}$', not 'ab'",
        ),
        (
            ("tags", f'aggregator_key = "{"g" * 64}"\ntags'),
            "aggregator_key: string should match pattern '^[0-9a-f]{64}$', not 'ggg",
        ),
        (("[broker]", "[broker"), "is no valid TOML: "),
    ],
)
def test_a_bad_setting_is_told_by_its_key(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(*change))
    assert str(caught.value).startswith(f"{tmp_path / 'agent.toml'}: {expected}")


@pytest.mark.parametrize("name", sorted(RESERVED_IDS))
def test_names_of_roles_are_no_devices(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is the name of a role"):
        load(tmp_path, GOOD, device=name)
