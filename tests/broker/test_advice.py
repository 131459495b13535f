import socket

import pytest

from broker.advice import advised
from broker.mosquitto import Mosquitto
from broker.probe import probe
from broker.settings import BrokerSettings
from host.exits import ExitCode


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("[Errno 111] Connection refused", "is the broker running"),
        ("[Errno -2] Name or service not known", "DNS"),
        ("timed out", "firewall"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "use mqtt://"),
        (
            "CERTIFICATE_VERIFY_FAILED: Hostname mismatch, certificate is not valid for 'pi'. (_ssl.c:1006)",
            "for another host",
        ),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer",
            "set ca_file",
        ),
        ("certificate verify failed: certificate is not yet valid", "clock"),
        ("Not authorized", "password_file"),
    ],
)
def test_a_known_reason_comes_with_advice(reason: str, advice: str) -> None:
    assert advised(reason).startswith(f"{reason}; ")
    assert advice in advised(reason)


def test_an_unknown_reason_stays_as_it_is() -> None:
    assert advised("out of tea") == "out of tea"


def test_a_check_says_where_nobody_listens_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"mqtt://127.0.0.1:{free.getsockname()[1]}"
    code, text = probe(BrokerSettings(url=url), "pi-1")
    assert code is ExitCode.UNREACHABLE
    assert text.startswith(f"{url} cannot be reached: ")
    assert text.endswith("is the port right?")


def test_a_check_of_tls_on_a_port_without_it_says_so(mosquitto: Mosquitto) -> None:
    settings = BrokerSettings(url=f"mqtts://127.0.0.1:{mosquitto.port}")
    code, text = probe(settings, "pi-1")
    assert code is ExitCode.UNREACHABLE
    assert "; " in text


def test_a_check_with_a_wrong_password_names_the_broker(mosquitto: Mosquitto) -> None:
    code, text = probe(BrokerSettings(url=f"mqtt://127.0.0.1:{mosquitto.port}", username="pi-1"), "pi-1")
    assert code is ExitCode.REFUSED_CREDENTIALS
    assert "refuses us: Not authorized; check username" in text
