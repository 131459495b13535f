from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from broker.settings import BrokerSettings, Endpoint
from broker.topics import Topics
from host.errors import ConfigError

URL = "mqtt://broker"


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("mqtt://broker", Endpoint("broker", 1883, tls=False, path=None)),
        ("mqtt://broker/", Endpoint("broker", 1883, tls=False, path=None)),
        ("mqtts://broker", Endpoint("broker", 8883, tls=True, path=None)),
        ("ws://broker", Endpoint("broker", 80, tls=False, path="/mqtt")),
        ("wss://broker/", Endpoint("broker", 443, tls=True, path="/mqtt")),
        ("wss://broker:9001/a/b", Endpoint("broker", 9001, tls=True, path="/a/b")),
        ("mqtt://10.0.0.1:1884", Endpoint("10.0.0.1", 1884, tls=False, path=None)),
        ("mqtts://[::1]:8884", Endpoint("::1", 8884, tls=True, path=None)),
    ],
)
def test_a_url_says_where_and_how(url: str, endpoint: Endpoint) -> None:
    assert BrokerSettings(url=url).endpoint == endpoint


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "broker"}, "must begin with mqtt://"),
        ({"url": "http://broker"}, "must begin with mqtt://"),
        ({"url": "mqtt://"}, "names no host"),
        ({"url": "mqtt://:1883"}, "names no host"),
        ({"url": "mqtt://bro ker"}, "names no host"),
        ({"url": "mqtt://broker:0"}, "a port outside of 1 to 65535"),
        ({"url": "mqtt://broker:65536"}, "a port outside of 1 to 65535"),
        ({"url": "mqtt://broker:abc"}, "a port outside of 1 to 65535"),
        ({"url": "mqtt://broker/midge"}, "has a path"),
        ({"url": "mqtt://broker?x=1"}, "must end after host"),
        ({"url": "mqtt://me:secret@broker"}, "holds credentials: move them to username and password_file"),
        ({"url": URL, "password_file": "p"}, "password_file is set, but username is not"),
        ({"url": URL, "ca_file": "ca.pem"}, "the url is not encrypted: use mqtts:// or wss://"),
        ({"url": "mqtts://b", "key_file": "k"}, "certificate_file and key_file go together"),
        ({"url": "mqtts://b", "certificate_file": "c"}, "certificate_file and key_file go together"),
        ({"url": URL, "reconnect_min_s": 10, "reconnect_max_s": 5}, "reconnect_min_s is larger"),
        ({"url": URL, "prefix": "midge/#"}, "prefix"),
        ({"url": URL, "prefix": "/midge"}, "prefix"),
        ({"url": URL, "prefix": "midge/"}, "prefix"),
        ({"url": URL, "prefix": "$SYS"}, "prefix"),
        ({"url": URL, "prefix": "a b"}, "prefix"),
        ({"url": URL, "prefix": "%u"}, "prefix"),
        ({"url": URL, "prefix": "a\n"}, "prefix"),
        ({"url": URL, "federation": "Lab"}, "federation"),
        ({"url": URL, "keepalive_s": 0}, "keepalive_s"),
        ({"url": URL, "max_queued": 0}, "max_queued"),
        ({"url": URL, "novelty": 1}, "novelty"),
    ],
)
def test_wrong_settings_are_refused_with_a_reason(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        BrokerSettings.model_validate(fields)
    assert words in str(refusal.value)


def test_the_secret_of_a_url_is_not_repeated_in_the_reason() -> None:
    with pytest.raises(ValidationError) as refusal:
        BrokerSettings(url="mqtt://me:hunter2@broker")
    assert "hunter2" not in str(refusal.value)


def test_topics_are_those_of_prefix_and_federation() -> None:
    assert BrokerSettings(url=URL, prefix="site/hall", federation="lab").topics == Topics("lab", "site/hall")


def test_without_a_password_file_there_is_no_password() -> None:
    assert BrokerSettings(url=URL).password() is None


def test_a_password_is_read_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" secret \r\n")
    assert BrokerSettings(url=URL, username="pi", password_file=file).password() == " secret "


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), (b"\n", "is empty"), (b"\xff", "cannot be read")]
)
def test_an_unusable_password_file_is_the_operators_error(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        BrokerSettings(url=URL, username="pi", password_file=file).password()
