"""Who may do what on a Mosquitto with the generated files: every account on every topic of the tree."""

import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_crl

from broker.accounts import update_accounts
from broker.events import Acknowledged, Disconnected, Received, Refused
from broker.settings import BrokerSettings
from broker.tls import client_context
from broker.topics import ENROL_REPLY, INBOX, MONITOR_AGGREGATOR, OFFER, RENEW, TREE, Branch, Role, Topics
from deploy.home.bundle import CERTIFICATE, KEY
from deploy.home.home import Home
from deploy.pki.authority import Authority
from host.certificates import new_key, request
from tests.broker.peer import PATIENCE_S, Peer, topics_of
from tests.deploy.home.federation import by_password, enrolled, local, make_home, reload, running

TOKENS = tuple(f"token_{digit * 32}" for digit in "ab")
LEVELS = {"run": "run-1", "round": "1", "digest": "a" * 64, "transfer": "b" * 16, "index": "0"}
OWN_LEVEL = {Role.DEVICE: "device", Role.OPERATOR: "user", Role.ENROLMENT: "token"}
WORDS = "a password of this test"


@dataclass(frozen=True)
class Account:
    """Whoever can connect: its role, the name that it goes by, and where."""

    name: str
    role: Role
    settings: BrokerSettings


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = make_home(tmp_path_factory.mktemp("federation") / "home")
    update_accounts(home.broker / "tokens", dict.fromkeys(TOKENS, WORDS))
    update_accounts(home.broker / "viewers", dict.fromkeys(("aggregator", "operator", "pi-1"), WORDS))
    with running(home):
        yield home


@pytest.fixture(scope="module")
def devices(home: Home) -> dict[str, BrokerSettings]:
    return {name: enrolled(home, name).broker for name in ("pi-1", "pi-2")}


def accounts(home: Home, devices: dict[str, BrokerSettings]) -> dict[str, Account]:
    """By a word for the test's messages; among the viewers, some that are named like others."""
    ports = home.federation.ports
    local_roles = (Role.AGGREGATOR, Role.REGISTRAR, Role.OPERATOR, Role.MONITOR)
    return {
        **{f"local {role}": Account(role.value, role, local(home, role)) for role in local_roles},
        **{f"device {name}": Account(name, Role.DEVICE, settings) for name, settings in devices.items()},
        **{
            token: Account(token, Role.ENROLMENT, by_password(home, ports.enrolment, token, WORDS))
            for token in TOKENS
        },
        **{
            f"viewer {name}": Account(name, Role.MONITOR, by_password(home, ports.viewers, name, WORDS))
            for name in ("aggregator", "operator")
        },
    }


def addresses(topics: Topics) -> list[tuple[Branch, str, str]]:
    """Every topic, once for each name that a device or a user in it could bear."""
    names = ("pi-1", "pi-2", "aggregator", "operator", "monitor", "registrar", "nobody")
    found = []
    for branch in TREE:
        fields = {"{token}": TOKENS, "{device}": names, "{user}": names}
        levels = branch.pattern.split("/")
        for name in next((choice for level, choice in fields.items() if level in levels), ("-",)):
            topic = topics.topic(branch, **LEVELS, device=name, user=name, token=name)
            found.append((branch, name, topic))
    return found


def own(account: Account, branch: Branch, name: str) -> bool:
    """Whether the topic is the account's: some may use only what bears their name."""
    level = f"{{{OWN_LEVEL.get(account.role)}}}"
    return level not in branch.pattern or name == account.name


def denied_by_name(account: Account, branch: Branch, name: str) -> bool:
    """Accounts of roles have nothing in what a device of their name would have."""
    local_role = account.role not in {Role.DEVICE, Role.ENROLMENT}
    return (
        local_role
        and "{device}" in branch.pattern
        and Role.DEVICE in (branch.writer, *branch.readers)
        and (name == account.name)
    )


def may_write(account: Account, branch: Branch, name: str) -> bool:
    allowed = account.role in branch.writers and own(account, branch, name)
    return allowed and not denied_by_name(account, branch, name)


def may_read(account: Account, branch: Branch, name: str) -> bool:
    # Mosquitto cannot deny reading alone: who writes what all devices read hears it.
    hears_itself = account.role in branch.writers and Role.DEVICE in branch.readers
    reads = account.role in branch.readers or (hears_itself and "{device}" not in branch.pattern)
    return reads and own(account, branch, name) and not denied_by_name(account, branch, name)


def last_topic(topics: Topics, account: Account) -> tuple[str, str]:
    """Who can tell an account that all is said, and where."""
    return {
        Role.AGGREGATOR: ("device pi-1", topics.topic(OFFER, device="pi-1")),
        Role.REGISTRAR: ("device pi-1", topics.topic(RENEW, device="pi-1")),
        Role.OPERATOR: ("local aggregator", topics.topic(MONITOR_AGGREGATOR)),
        Role.MONITOR: ("local aggregator", topics.topic(MONITOR_AGGREGATOR)),
        Role.DEVICE: ("local aggregator", topics.topic(INBOX, device=account.name)),
        Role.ENROLMENT: ("local registrar", topics.topic(ENROL_REPLY, token=account.name)),
    }[account.role]


def test_every_account_may_do_what_the_tree_says_and_nothing_else(
    home: Home, devices: dict[str, BrokerSettings]
) -> None:
    wrong, tried, written = [], 0, set()
    everybody = accounts(home, devices)
    with ExitStack() as stack:
        peers = {
            word: stack.enter_context(Peer(account.settings, word.replace(" ", "-"), f"{home.topics.root}/#"))
            for word, account in everybody.items()
        }
        for branch, name, topic in addresses(home.topics):
            for word, account in everybody.items():
                answer, tried = peers[word].send(topic, b"x"), tried + 1
                assert answer.ok or answer.reason == "Not authorized"
                if answer.ok != may_write(account, branch, name):
                    wrong.append(("writes" if answer.ok else "cannot write", word, topic))
                if answer.ok:
                    written.add((branch, name, topic))
        for word, account in everybody.items():
            speaker, topic = last_topic(home.topics, account)
            assert peers[speaker].send(topic, word.encode()).ok
            heard = topics_of([e for e in peers[word].receive_until(word.encode()) if e.payload == b"x"])
            for branch, name, topic in written:
                if (topic in heard) != may_read(account, branch, name):
                    wrong.append(("reads" if topic in heard else "does not read", word, topic))
    assert wrong == []
    assert tried == len(everybody) * len(addresses(home.topics)) > 800


def test_nobody_writes_outside_of_the_root(home: Home, devices: dict[str, BrokerSettings]) -> None:
    for word, account in accounts(home, devices).items():
        with Peer(account.settings, "outside") as peer:
            for topic in ("elsewhere", "midge/v1/other/federation", "$SYS/broker/version"):
                assert not peer.send(topic, b"x").ok, (word, topic)


def test_a_stolen_client_id_disconnects_nobody(home: Home, devices: dict[str, BrokerSettings]) -> None:
    ports = home.federation.ports
    thieves = (
        devices["pi-2"],
        by_password(home, ports.enrolment, TOKENS[0], WORDS),
        by_password(home, ports.viewers, "operator", WORDS),
    )
    topic = home.topics.topic(OFFER, device="pi-1")
    with Peer(devices["pi-1"].model_copy(update={"client_id": "pi-1"}), "victim") as victim:
        for thief in thieves:
            with Peer(thief.model_copy(update={"client_id": "pi-1"}), "thief"):
                ticket = victim.session.publish(topic, b"x")
                seen = [victim.inbox.get(PATIENCE_S)]
                while not (isinstance(seen[-1], Acknowledged) and seen[-1].ticket == ticket):
                    seen.append(victim.inbox.get(PATIENCE_S))
                assert not [event for event in seen if event is None or isinstance(event, Disconnected)]


def certified(folder: Path, authority: Authority, name: str, *, days: float) -> dict[str, Path]:
    key = new_key()
    (folder / KEY).write_bytes(key)
    (folder / CERTIFICATE).write_bytes(authority.sign(name, Role.DEVICE, request(key, name), days=days))
    return {"certificate_file": folder / CERTIFICATE, "key_file": folder / KEY}


def refusal(settings: BrokerSettings) -> str:
    peer = Peer(settings, "refused")
    reason = peer.until(Refused).reason
    peer.session.stop()
    return reason


def test_an_expired_foreign_or_missing_certificate_is_refused(
    home: Home, devices: dict[str, BrokerSettings], tmp_path: Path
) -> None:
    settings = devices["pi-1"]
    expired = certified(tmp_path, home.authority(), "pi-3", days=-1)
    assert "alert certificate expired" in refusal(settings.model_copy(update=expired))
    stranger = Authority.create(tmp_path / "stranger", "lab")
    foreign = certified(tmp_path, stranger, "pi-1", days=30)
    assert "alert" in refusal(settings.model_copy(update=foreign))
    none: dict[str, Path | None] = {"certificate_file": None, "key_file": None}
    assert "alert" in refusal(settings.model_copy(update=none))


def test_old_versions_of_tls_are_not_spoken(home: Home) -> None:
    ports = home.federation.ports
    for port, spoken in ((ports.enrolment, ssl.TLSVersion.TLSv1_2), (ports.viewers, ssl.TLSVersion.TLSv1_3)):
        assert handshake(home, port, spoken, spoken) == spoken.name.replace("_", ".")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with pytest.raises(ssl.SSLError):
                handshake(home, port, ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)


def handshake(home: Home, port: int, oldest: ssl.TLSVersion, newest: ssl.TLSVersion) -> str | None:
    """What version is agreed on."""
    context = ssl.create_default_context(cafile=str(home.broker / "ca.crt"))
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = oldest, newest
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        return secured.version()


def test_a_brokers_certificate_is_no_devices(home: Home, devices: dict[str, BrokerSettings]) -> None:
    files = {"certificate_file": home.broker / "broker.crt", "key_file": home.broker / "broker.key"}
    assert "alert" in refusal(devices["pi-1"].model_copy(update=files))


def test_no_other_listener_takes_what_is_for_one(home: Home, devices: dict[str, BrokerSettings]) -> None:
    ports, password = home.federation.ports, (home.of(Role.OPERATOR) / "password").read_text()
    for port in (ports.enrolment, ports.viewers):
        certificate_only = devices["pi-1"].model_copy(update={"url": home.federation.url(port)})
        assert refusal(certificate_only) == "Not authorized"
        assert refusal(by_password(home, port, "registrar", password)) == "Not authorized"
    assert "alert" in refusal(by_password(home, ports.devices, "operator", password))
    local_token = local(home, Role.OPERATOR).model_copy(
        update={
            "username": TOKENS[0],
            "password_file": by_password(home, 1, TOKENS[0], WORDS).password_file,
        }
    )
    assert refusal(local_token) == "Not authorized"


def test_a_token_opens_the_enrolment_listener_from_the_next_reload_until_it_is_taken_away(
    tmp_path: Path,
) -> None:
    home = make_home(tmp_path / "home")
    settings = by_password(home, home.federation.ports.enrolment, TOKENS[0], WORDS)
    with (
        running(home) as broker,
        Peer(local(home, Role.REGISTRAR), "registrar", f"{home.topics.root}/#") as registrar,
    ):
        assert refusal(settings) == "Not authorized"
        update_accounts(home.broker / "tokens", {TOKENS[0]: WORDS})
        reload(home, broker)
        with Peer(settings, "device") as device:
            assert device.send(f"{home.topics.root}/enrol/{TOKENS[0]}/request", b"csr").ok
        assert registrar.until(Received).payload == b"csr"
        update_accounts(home.broker / "tokens", {TOKENS[0]: None})
        reload(home, broker)
        assert refusal(settings) == "Not authorized"


def test_a_revoked_device_cannot_return_not_even_by_an_earlier_session_of_tls(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    settings = enrolled(home, "pi-1").broker
    context = client_context(settings)
    assert context is not None
    with running(home) as broker:
        session = connect(context, home)
        assert connect(context, home, session) is not None
        authority = home.authority()
        authority.revoke("pi-1")
        (home.broker / "crl.pem").write_bytes(authority.crl())
        reload(home, broker)
        assert "alert certificate revoked" in refusal(settings)
        # TLS 1.3 asks for the certificate last: we may see the alert, or the end that follows it.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connect(context, home, session)


def connect(
    context: ssl.SSLContext, home: Home, session: ssl.SSLSession | None = None
) -> ssl.SSLSession | None:
    """Connect as an MQTT client; gives the session of TLS, by which the next can do without a certificate."""
    begin = b"\x10\x10\x00\x04MQTT\x05\x02\x00\x0f\x00\x00\x03any"
    address = ("127.0.0.1", home.federation.ports.devices)
    with (
        socket.create_connection(address, timeout=PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as secured,
    ):
        secured.sendall(begin)
        if secured.recv(1) != b"\x20":
            raise ConnectionError("the broker did not answer CONNECT")
        assert secured.session_reused == (session is not None)
        return secured.session


def test_a_broker_whose_clock_was_never_set_or_is_years_ahead_has_a_valid_list(home: Home) -> None:
    crl = load_pem_x509_crl((home.broker / "crl.pem").read_bytes())
    assert crl.last_update_utc == datetime(1970, 1, 1, tzinfo=UTC)
    assert crl.next_update_utc is not None
    assert crl.next_update_utc - datetime.now(UTC) > timedelta(days=3600)
