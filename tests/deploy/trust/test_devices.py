from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from broker.monitor import DeviceDocument
from broker.mosquitto import Mosquitto
from broker.settings import BrokerSettings
from broker.topics import MONITOR_DEVICE, Role, Topics
from deploy.command.devices import ago
from deploy.pki.register import Issued
from deploy.registrar.tokens import TokenRow
from deploy.trust.devices import device_rows, open_tokens, shown_devices
from tests.broker.peer import Peer

NOW = datetime(2030, 5, 1, tzinfo=UTC)


def issued(name: str, days: int, *, revoked: bool = False, role: Role = Role.DEVICE) -> Issued:
    serial = f"{name}{days}"
    until = NOW + timedelta(days=days)
    return Issued(serial, name, role, NOW, until, NOW, NOW if revoked else None)


def document(device: str, **more: object) -> DeviceDocument:
    return DeviceDocument.model_validate({"device": device, "live": True, "state": "idle", **more})


def test_a_row_joins_the_register_with_what_the_aggregator_shows() -> None:
    shown = document("pi-1", tags=("roof",), version="1.0", heard_at_unix_s=NOW.timestamp())
    (row,) = device_rows([issued("pi-1", 100)], {"pi-1": shown}, {})
    assert (row.device, row.state, row.tags, row.version, row.seen) == ("pi-1", "idle", ("roof",), "1.0", NOW)
    assert (row.certificate_until, row.revoked) == (NOW + timedelta(days=100), None)


def test_a_device_that_was_replaced_has_the_new_certificate() -> None:
    (row,) = device_rows([issued("pi-1", 500, revoked=True), issued("pi-1", 400)], {}, {})
    assert (row.certificate_until, row.revoked, row.certificates) == (NOW + timedelta(days=400), None, 2)


def test_a_device_without_a_certificate_that_is_good_is_revoked() -> None:
    (row,) = device_rows([issued("pi-1", 100, revoked=True), issued("pi-1", 50, revoked=True)], {}, {})
    assert row.revoked == NOW


def test_what_counts_is_the_certificate_that_a_device_got_last() -> None:
    bundle, renewed = issued("pi-1", 700), replace(issued("pi-1", 365), issued_at=NOW + timedelta(days=1))
    (row,) = device_rows([renewed, bundle], {}, {})
    assert row.certificate_until == NOW + timedelta(days=365)


def test_who_was_left_behind_when_the_authority_changed_is_told() -> None:
    former, now = replace(issued("pi-1", 700), issuer="a"), replace(issued("pi-2", 700), issuer="b")
    assert [row.left_behind for row in device_rows([former, now], {}, {}, "b")] == [True, False]
    assert [row.left_behind for row in device_rows([former, now], {}, {}, None)] == [False, False]


def test_devices_without_certificates_of_ours_are_listed_and_other_roles_are_not() -> None:
    rows = device_rows(
        [issued("pi-1", 9), issued("anna", 9, role=Role.OPERATOR)], {"pi-9": document("pi-9")}, {}
    )
    assert [(row.device, row.certificate_until) for row in rows] == [
        ("pi-1", NOW + timedelta(9)),
        ("pi-9", None),
    ]


def test_tokens_that_nobody_used_are_listed_while_they_are_good() -> None:
    def token(device: str, days: float, **more: bool | bytes) -> TokenRow:
        return TokenRow(device, device, "key", NOW.timestamp(), (NOW + timedelta(days)).timestamp(), **more)  # type: ignore[arg-type]

    tokens = [
        token("pi-1", 7),
        token("pi-2", 2),
        token("expired", -1),
        token("withdrawn", 7, withdrawn=True),
        token("used", 7, chain=b"pem"),
    ]
    rows = device_rows([issued("pi-2", 9)], {}, open_tokens(tokens, NOW))
    assert [(row.device, row.certificates, row.token_until) for row in rows] == [
        ("pi-1", 0, NOW + timedelta(7)),
        ("pi-2", 1, NOW + timedelta(2)),
    ]


def test_what_the_broker_retains_is_read_and_what_cannot_be_read_is_left_out(
    mosquitto: Mosquitto, topics: Topics
) -> None:
    with Peer(mosquitto.settings("aggregator"), "aggregator") as aggregator:
        for device, payload in {"pi-1": document("pi-1").payload(), "pi-2": b"{}"}.items():
            topic = topics.topic(MONITOR_DEVICE, device=device)
            assert aggregator.send(topic, payload, retain=True).ok
    assert list(shown_devices(mosquitto.settings("operator")) or {}) == ["pi-1"]


def test_a_broker_that_cannot_be_asked_is_told_from_one_without_devices(mosquitto: Mosquitto) -> None:
    assert shown_devices(mosquitto.settings("operator")) == {}
    nobody = BrokerSettings(url="mqtt://127.0.0.1:1", username="operator", connect_timeout_s=1)
    assert shown_devices(nobody) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7199, "119 min ago"), (90_000, "25 h ago")],
)
def test_how_long_ago_a_device_was_heard_is_short(seconds: int, said: str) -> None:
    assert ago(timedelta(seconds=seconds)) == said
