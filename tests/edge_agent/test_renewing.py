"""What an agent makes of who certifies now, and of the roots that come with a certificate."""

import time
from pathlib import Path
from random import SystemRandom

import pytest

from broker import wire
from broker.enrolment import Issued
from broker.session import Session
from broker.settings import BrokerSettings
from broker.topics import CERTIFIER, Role, Topics
from broker.trust import Certifier, Trust, fingerprints, vouch
from deploy.pki.authority import Authority
from edge_agent.identity import Identity
from edge_agent.renewing import Renewing, roots_of
from edge_agent.schedule import LONGEST_PAUSE_S, Schedule
from host.certificates import new_key, request

TOPICS = Topics("lab")
YEAR_S = 365 * 86_400.0


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("old") / "pki", "lab")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("new") / "pki", "lab new")


@pytest.fixture
def identity(tmp_path: Path, old: Authority) -> Identity:
    """A bundle of the old authority."""
    key = new_key()
    contents = {"ca.crt": old.root, "device.key": key}
    contents["device.crt"] = old.sign("pi-1", Role.DEVICE, request(key, "pi-1"))
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    broker = BrokerSettings(
        url="mqtts://127.0.0.1:1",
        ca_file=tmp_path / "ca.crt",
        certificate_file=tmp_path / "device.crt",
        key_file=tmp_path / "device.key",
    )
    return Identity(tmp_path / "state", broker)


def told(issuer: Authority, roots: bytes, within_s: float = 60.0) -> bytes:
    (digest,) = fingerprints(issuer.intermediate)
    return wire.encode(Certifier(issuer=digest, roots=fingerprints(roots), within_s=within_s))


def waiting(identity: Identity) -> tuple[Renewing, Schedule]:
    """An agent whose certificate is young."""
    schedule = Schedule(SystemRandom())
    session = Session(identity.broker, "pi-1", lambda _: None, will=None, subscriptions=())
    renewing = Renewing(identity, session, TOPICS, "pi-1", schedule)
    schedule.ask_at = YEAR_S
    return renewing, schedule


def test_a_device_asks_soon_when_others_certify_or_are_to_be_trusted(
    identity: Identity, old: Authority, new: Authority
) -> None:
    for payload in (told(new, old.root + new.root), told(old, old.root + new.root)):
        renewing, schedule = waiting(identity)
        renewing.certifier(payload)
        assert schedule.ask_at < YEAR_S / 2


def test_a_device_asks_nothing_of_who_certified_it_or_of_whom_its_broker_is_not(
    identity: Identity, old: Authority, new: Authority
) -> None:
    for payload in (told(old, old.root), told(old, new.root)):
        renewing, schedule = waiting(identity)
        renewing.certifier(payload)
        assert schedule.ask_at == YEAR_S


def test_what_is_said_again_at_each_connection_is_heeded_once(
    identity: Identity, old: Authority, new: Authority
) -> None:
    renewing, schedule = waiting(identity)
    renewing.certifier(told(new, old.root))
    schedule.ask_at = YEAR_S
    renewing.certifier(told(new, old.root))
    assert schedule.ask_at == YEAR_S
    renewing.certifier(told(new, old.root + new.root))
    assert schedule.ask_at < YEAR_S / 2


def issued(trust: Trust | None) -> Issued:
    return Issued(request="ab" * 32, chain=b"chain", renew_after_s=1.0, trust=trust)


def vouched(authority: Authority, roots: bytes) -> Trust:
    voucher = authority.issuers[0]
    return vouch(voucher.key, voucher.intermediate, TOPICS.topic(CERTIFIER), roots)


def test_roots_are_taken_from_the_authority_that_is_trusted_and_from_no_stranger(
    old: Authority, new: Authority
) -> None:
    both = old.root + new.root
    assert roots_of(issued(vouched(old, both)), TOPICS, old.root) == both
    assert roots_of(issued(vouched(new, both)), TOPICS, old.root) is None
    assert roots_of(issued(None), TOPICS, old.root) is None


def test_a_device_of_another_broker_keeps_to_its_roots(old: Authority, new: Authority) -> None:
    for trusted in (new.root, b""):
        assert roots_of(issued(vouched(old, old.root)), TOPICS, trusted) is None


def test_who_goes_back_to_an_old_certificate_asks_again_before_that_one_ends(identity: Identity) -> None:
    renewing, _ = waiting(identity)
    identity.pending_key()
    identity.adopt(b"refused")
    identity.note(YEAR_S, time.time())
    assert renewing.refused()
    kept = Identity(identity._path.parent, identity._broker).record
    assert kept.renew_unix_s is not None
    assert kept.renew_unix_s < time.time() + 2 * LONGEST_PAUSE_S
    identity.pending_key()
    identity.adopt(b"refused as well")
    identity.note(YEAR_S, time.time())
    assert identity.go_back()
    assert identity.record.renew_unix_s is None
