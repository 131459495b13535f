from pathlib import Path

import pytest

from aggregator.settings import AggregatorSettings
from host.errors import ConfigError
from host.settings import load_settings

GOOD = """
folder = "/var/lib/midge"
[broker]
url = "mqtts://broker.example"
[tasks.mnist]
file = "/etc/midge/mnist.py"
[tasks.mnist.settings]
rounds = 5
"""


def load(folder: Path, text: str, **overrides: str) -> AggregatorSettings:
    path = folder / "aggregator.toml"
    path.write_text(text)
    return load_settings(AggregatorSettings, path, overrides, {})


def test_a_short_file_is_enough(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert settings.folder == Path("/var/lib/midge")
    assert settings.tasks["mnist"].settings == {"rounds": 5}
    assert (settings.heartbeat_s, settings.chunk_bytes, settings.keep_rounds) == (5.0, 98_304, 100)


def test_the_command_line_stands_above_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD, heartbeat_s="2.5", **{"tasks.mnist.settings": '{"rounds": 9}'})
    assert settings.heartbeat_s == 2.5
    assert settings.tasks["mnist"].settings == {"rounds": 9}


@pytest.mark.parametrize(
    ("line", "instead", "fault"),
    [
        ('folder = "/var/lib/midge"', "", "folder: is missing"),
        (
            'folder = "/var/lib/midge"',
            'folder = "x"\nfoldr = 1',
            "foldr: is not a setting; did you mean folder?",
        ),
        (
            'folder = "/var/lib/midge"',
            'folder = "x"\nkeep_rounds = "four"',
            "keep_rounds: input should be a valid integer, unable to parse string as an integer, not 'four'",
        ),
        (
            'folder = "/var/lib/midge"',
            'folder = "x"\nheartbeat_s = 0.01',
            "heartbeat_s: input should be greater than or equal to 0.1, not 0.01",
        ),
        (
            'folder = "/var/lib/midge"',
            'folder = "x"\nchunk_bytes = 2_000_000',
            "chunk_bytes: input should be less than or equal to 1048576, not 2000000",
        ),
        (
            'folder = "/var/lib/midge"',
            'folder = "x"\nupload_window = 65',
            "upload_window: input should be less than or equal to 64, not 65",
        ),
        (
            'url = "mqtts://broker.example"',
            'url = "broker.example"',
            "broker.url: broker url 'broker.example' must begin with mqtt://, mqtts://, ws:// or wss://",
        ),
        ('file = "/etc/midge/mnist.py"', "", "tasks.mnist.file: is missing"),
        (
            "rounds = 5",
            "roundz = 5",
            "tasks.mnist.settings: roundz is not a setting of a run; did you mean rounds?",
        ),
        (
            "rounds = 5",
            "rounds = 0",
            "tasks.mnist.settings: rounds: input should be greater than or equal to 1, not 0",
        ),
        ("rounds = 5", "epochs = 1\nsteps = 2", "tasks.mnist.settings: give epochs or steps, not both"),
        (
            "rounds = 5",
            "target = 2\nquorum = 3",
            "tasks.mnist.settings: quorum 3 is above target 2: no round could close",
        ),
    ],
)
def test_a_fault_is_said_in_one_line_with_its_place(
    tmp_path: Path, line: str, instead: str, fault: str
) -> None:
    assert line in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(line, instead))
    assert str(caught.value) == f"{tmp_path}/aggregator.toml: {fault}"


def test_a_bad_name_of_a_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Bad Name"):
        load(tmp_path, GOOD.replace("tasks.mnist", 'tasks."Bad Name"'))


def test_a_secret_in_the_url_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace("mqtts://broker", "mqtts://me:hunter2@broker"))
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).endswith(
        "broker.url: broker url holds credentials: move them to username and password_file"
    )


@pytest.mark.parametrize(
    ("url", "said", "seals"),
    [
        ("mqtts://broker.example", None, "true"),
        ("mqtts://192.168.1.7", None, "true"),
        ("mqtts://broker.example", "false", "false"),
        ("mqtt://localhost", None, "false"),
        ("mqtt://127.0.0.1:1884", None, "false"),
        ("mqtt://[::1]", None, "false"),
        ("mqtt://localhost", "true", "true"),
    ],
)
def test_updates_are_sealed_on_a_broker_elsewhere_unless_the_settings_say_otherwise(
    tmp_path: Path, url: str, said: str | None, seals: str
) -> None:
    overrides = {"broker.url": url} | ({} if said is None else {"sealed": said})
    assert str(load(tmp_path, GOOD, **overrides).seals).lower() == seals


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('metrics_listen = "9109"', "metrics_listen: write an address and a port, such as 127.0.0.1:9109"),
        ('metrics_listen = "localhost:9109"', "metrics_listen: write an address and a port"),
        ('metrics_listen = "127.0.0.1:66000"', "metrics_listen: write an address and a port"),
        ('webhook_url = "ftp://example/secret"', "webhook_url: write https://HOST/PATH"),
        ('webhook_url = "https://"', "webhook_url: write https://HOST/PATH"),
        ('webhook_url = "https://me:secret@example"', "webhook_url holds a user or a password"),
        ('webhook_url = "http://example/secret"', "webhook_url is http:// to another machine"),
        ('webhook_url = "http://[::1"', "webhook_url: write https://HOST/PATH"),
        ('webhook_url = "https://example:x/secret"', "webhook_url: write https://HOST/PATH"),
        ('webhook_token_file = "token"', "webhook_url is missing, but there is a secret for it"),
        ('home_assistant_prefix = "a/#"', "home_assistant_prefix: string should match"),
    ],
)
def test_where_to_tell_what_is_checked_and_no_secret_is_repeated(
    tmp_path: Path, line: str, fault: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"{line}\n{GOOD}")
    assert fault in str(caught.value)
    assert "secret@" not in str(caught.value)
    assert "/secret" not in str(caught.value)


def test_nothing_leaves_for_other_systems_unless_it_is_set(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert (settings.discovery, settings.metrics_listen, settings.webhook_url) == (None, None, None)


def test_a_webhook_may_be_plain_on_this_machine_or_where_that_is_allowed(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:8080/x", "http://localhost/x", "http://[::1]/x", "https://example/x"):
        assert load(tmp_path, f'webhook_url = "{url}"\n{GOOD}').webhook_url == url
    allowed = load(tmp_path, f'webhook_plain = true\nwebhook_url = "http://example/x"\n{GOOD}')
    assert allowed.webhook_url == "http://example/x"


def test_metrics_can_be_served_on_either_internet_protocol(tmp_path: Path) -> None:
    for listen, address in {"127.0.0.1:9109": ("127.0.0.1", 9109), "[::1]:0": ("::1", 0)}.items():
        assert load(tmp_path, f'metrics_listen = "{listen}"\n{GOOD}').metrics_address == address
