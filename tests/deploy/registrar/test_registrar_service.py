import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.enrolment import (
    MAX_CHAIN_BYTES,
    MAX_PROOF_BYTES,
    MAX_REQUEST_BYTES,
    Answer,
    EnrolmentRequest,
    Issued,
    Refusal,
    RefusalReason,
    RenewalRequest,
    Token,
    show,
)
from broker.events import Received
from broker.messages import Message
from broker.topics import ENROL_REPLY, ENROL_REQUEST, RENEW, RENEWED, Role
from broker.trust import MAX_ROOTS, fingerprints
from broker.wire import decode, encode
from deploy.home.bundle import agent_settings, enrol, enrol_by_token
from deploy.home.home import TOKENS, Home
from deploy.pki import succession
from deploy.pki.authority import Authority
from deploy.registrar.service import DOOR_BURST, INBOX_LIMIT, MAX_ASKED_BYTES, Service
from deploy.registrar.settings import RegistrarSettings
from deploy.registrar.standing import is_outdated, standing_of
from host.certificates import belongs, common_name, new_key, request
from host.errors import ConfigError
from host.exits import ExitCode
from host.notify import Notifier
from host.settings import load_settings
from tests.broker.peer import Peer
from tests.deploy.home.federation import by_password, enrolled, make_home, running

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = make_home(tmp_path_factory.mktemp("registrar") / "home")
    settings = agent_settings(made, "pi-1", {}, by_token=True)
    enrol_by_token(made, made.tokens(), settings, 3600)
    with running(made):
        yield made


def settings_of(home: Home, **changes: object) -> RegistrarSettings:
    return load_settings(RegistrarSettings, home.of(Role.REGISTRAR) / "registrar.toml", changes, {})


@contextmanager
def served(home: Home, notify: Path) -> Iterator[None]:
    """A registrar in a thread, from READY on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(notify))
        manager.settimeout(PATIENCE_S)
        service = Service(settings_of(home), Notifier({"NOTIFY_SOCKET": str(notify)}))
        outcome: list[ExitCode] = []
        thread = threading.Thread(target=lambda: outcome.append(service.run()))
        thread.start()
        try:
            said = b""
            while said != b"STATUS=connected, answering devices":
                said = manager.recv(1000)
            yield
        finally:
            service.stop("the test is over")
            thread.join(PATIENCE_S)
    assert outcome == [ExitCode.OK]


def asked(peer: Peer, topic: str, message: bytes) -> Issued | Refusal:
    assert peer.send(topic, message).ok
    answer: Message = decode(Answer, peer.until(Received).payload)  # type: ignore[arg-type]
    assert isinstance(answer, Issued | Refusal)
    return answer


def test_a_token_is_good_for_one_key_whatever_else_is_sent(home: Home, tmp_path: Path) -> None:
    token = Token.read((home.devices / "pi-1" / "token").read_text())
    topic = home.topics.topic(ENROL_REQUEST, token=token.id)
    account = by_password(home, home.federation.ports.enrolment, token.id, token.password)
    key = new_key()
    requests = [request(key, "somebody-else"), request(new_key(), "pi-1")]
    messages = [encode(EnrolmentRequest(request=r, proof=token.prove(topic, r))) for r in requests]
    reply = home.topics.topic(ENROL_REPLY, token=token.id)
    with served(home, tmp_path / "notify"), Peer(account, token.id, reply) as peer:
        for rubbish in (b"", b"\xc1", bytes(300_000), messages[0][:-1]):
            peer.send(topic, rubbish)
        issued = asked(peer, topic, messages[0])
        assert isinstance(issued, Issued)
        assert common_name(issued.chain) == "pi-1"
        assert belongs(issued.chain, key)
        refusal = asked(peer, topic, messages[1])
        assert isinstance(refusal, Refusal)
        assert refusal.reason is RefusalReason.USED


def test_a_request_that_is_retained_is_not_answered_at_every_start(home: Home, tmp_path: Path) -> None:
    device = enrolled(home, "pi-2").broker
    assert device.key_file is not None
    assert device.certificate_file is not None
    topic = home.topics.topic(RENEW, device="pi-2")
    wanted = request(new_key(), "pi-2")
    proof = show(device.key_file.read_bytes(), topic, wanted)
    message = encode(
        RenewalRequest(request=wanted, certificate=device.certificate_file.read_bytes(), proof=proof)
    )
    with Peer(device, "pi-2", home.topics.topic(RENEWED, device="pi-2")) as peer:
        assert peer.send(topic, message[:-1], retain=True).ok
        with served(home, tmp_path / "notify"):
            answer = asked(peer, topic, message)
    assert isinstance(answer, Refusal)
    assert answer.reason is RefusalReason.TOO_EARLY


def test_only_a_certificate_of_ours_and_of_the_device_has_a_standing(home: Home, tmp_path: Path) -> None:
    authority = home.authority()
    ours = (enrol(home, authority, agent_settings(home, "pi-3", {})) / "device.crt").read_bytes()
    stranger = make_home(tmp_path / "stranger").authority()
    theirs = stranger.sign("pi-3", Role.DEVICE, request(new_key(), "pi-3"))
    standing = standing_of(authority, "pi-3", ours)
    assert standing is not None
    assert not standing.revoked
    assert standing.issued_unix_s == pytest.approx(time.time(), abs=PATIENCE_S)
    assert standing_of(authority, "pi-4", ours) is None
    assert standing_of(authority, "pi-3", theirs) is None
    assert standing_of(authority, "pi-3", b"no certificate") is None
    assert standing_of(authority, "aggregator", authority.intermediate) is None
    authority.revoke("pi-3")
    revoked = standing_of(authority, "pi-3", ours)
    assert revoked is not None
    assert revoked.revoked


def test_the_broker_has_an_account_for_each_open_token_and_no_other(home: Home) -> None:
    def bundle(lifetime_s: float) -> str:
        settings = agent_settings(home, "pi-5", {}, by_token=True)
        folder = enrol_by_token(home, home.tokens(), settings, lifetime_s)
        token = Token.read((folder / "token").read_text()).id
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        return token

    def accounts() -> str:
        return (home.broker / TOKENS).read_text()

    first = bundle(3600)
    assert first in accounts()
    second = bundle(0.001)
    assert first not in accounts()
    third = bundle(3600)
    assert second not in accounts()
    assert third in accounts()


def test_refused_credentials_end_it_after_several_refusals(home: Home, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    changes = {"broker.password_file": str(tmp_path / "password"), "broker.reconnect_max_s": 0.5}
    assert Service(settings_of(home, **changes), Notifier({})).run() is ExitCode.REFUSED_CREDENTIALS


def test_without_its_authority_it_does_not_start(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="authority"):
        Service(settings_of(home, authority=str(tmp_path / "nowhere")), Notifier({}))


def test_who_is_outdated_depends_on_how_far_the_next_authority_is(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    old = home.authority()
    chain = old.sign("pi-1", Role.DEVICE, request(new_key(), "pi-1"))

    def asked(chain: bytes, *roots: str) -> RenewalRequest:
        return RenewalRequest(request=b"request", certificate=chain, proof=b"proof", roots=roots)

    first = fingerprints(old.roots)
    assert not is_outdated(old, asked(chain, *first))
    assert is_outdated(old, asked(chain, "ab" * 32))
    succession.begin(home.pki, "lab", datetime.now(UTC))
    assert not is_outdated(home.authority(), asked(chain, *first))
    succession.sign(home.pki)
    new = home.authority()
    assert is_outdated(new, asked(chain))
    renewed = new.sign("pi-1", Role.DEVICE, request(new_key(), "pi-1"))
    assert not is_outdated(new, asked(renewed))
    assert is_outdated(new, asked(renewed, *first))
    assert standing_of(new, "pi-1", chain) is not None


def test_a_renewal_does_not_outlive_a_revocation_that_came_between(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = enrolled(home, "pi-6").broker
    assert device.key_file is not None
    assert device.certificate_file is not None
    topic = home.topics.topic(RENEW, device="pi-6")
    wanted = request(new_key(), "pi-6")
    message = RenewalRequest(
        request=wanted,
        certificate=device.certificate_file.read_bytes(),
        proof=show(device.key_file.read_bytes(), topic, wanted),
        roots=("ab" * 32,),
    )
    sign = Authority.sign

    def revoked_first(authority: Authority, *given: object, **more: object) -> bytes:
        authority.revoke("pi-6")
        return sign(authority, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Authority, "sign", revoked_first)
    with (
        Peer(device, "pi-6", home.topics.topic(RENEWED, device="pi-6")) as peer,
        served(home, tmp_path / "notify"),
    ):
        answer = asked(peer, topic, encode(message))
    assert isinstance(answer, Refusal)
    assert answer.reason is RefusalReason.REVOKED
    rows = home.authority().register.of("pi-6")
    assert [row.revoked_at is not None for row in rows] == [True, True]


def test_one_who_asks_without_end_or_at_length_leaves_room_for_others(home: Home) -> None:
    service = Service(settings_of(home), Notifier({}))
    noisy, quiet = (home.topics.topic(RENEW, device=device) for device in ("pi-1", "pi-2"))
    for _ in range(2 * INBOX_LIMIT):
        service._hear(Received(noisy, b"x", retained=False, expiry_s=None))
    service._hear(Received(quiet, bytes(100_000), retained=False, expiry_s=None))
    service._hear(Received(quiet, b"x" * MAX_ASKED_BYTES, retained=False, expiry_s=None))
    heard = []
    while (event := service._inbox.get(0)) is not None:
        assert isinstance(event, Received)
        heard.append((event.topic, len(event.payload)))
    assert DOOR_BURST <= len(heard) < INBOX_LIMIT
    assert set(heard) == {(noisy, 1), (quiet, MAX_ASKED_BYTES)}


def test_the_longest_request_is_let_in() -> None:
    longest = RenewalRequest(
        request=bytes(MAX_REQUEST_BYTES),
        certificate=bytes(MAX_CHAIN_BYTES),
        proof=bytes(MAX_PROOF_BYTES),
        roots=("ab" * 32,) * MAX_ROOTS,
    )
    assert len(encode(longest)) <= MAX_ASKED_BYTES
