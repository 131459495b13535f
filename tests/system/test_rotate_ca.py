"""The certificate authority gives way to another, root and all, while devices train round after round."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.events import Connected, Refused
from broker.settings import BrokerSettings
from broker.trust import fingerprints
from deploy.home.home import Home
from deploy.pki.succession import trusted_roots
from edge_agent.identity import Identity
from edge_agent.settings import AgentSettings
from host.settings import load_settings
from tests.broker.peer import Peer
from tests.deploy.trust.ground import run
from tests.system.secured import SecuredLab

DEVICES = ("pi-1", "pi-2")
PATIENCE_S = 60.0


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[SecuredLab]:
    with SecuredLab(tmp_path) as started:
        yield started


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def roots_of(lab: SecuredLab, device: str) -> tuple[str, ...]:
    """Whom an agent trusts."""
    settings = load_settings(AgentSettings, lab.home.devices / device / "agent.toml", {}, {})
    return fingerprints(Identity(lab.state(device), settings.broker).roots())


def all_trust(lab: SecuredLab, roots: tuple[str, ...]) -> Callable[[], bool]:
    return lambda: all(roots_of(lab, device) == roots for device in DEVICES)


def left_behind_of(lab: SecuredLab) -> set[str]:
    said = run(lab.home, "rotate", "ca", "--status")[1]
    return {line.split()[0] for line in said.splitlines()[:-1]}


def device_of(home: Home, device: str) -> BrokerSettings:
    return load_settings(AgentSettings, home.devices / device / "agent.toml", {}, {}).broker


def rounds_of(lab: SecuredLab, training: str) -> int:
    return len([name for name in lab.documents if name.startswith(f"runs/{training}/rounds/")])


@pytest.mark.timeout(240)
def test_two_agents_train_without_a_lost_round_while_the_authority_gives_way_to_another(
    lab: SecuredLab,
) -> None:
    lab.start_aggregator()
    lab.start_registrar(renew_within_s=0.5)
    stolen, forgotten = lab.bundle("stolen"), lab.bundle("pi-9")
    lab.start_bundle(lab.bundle("pi-1"), "pi-1")
    lab.start_bundle(lab.token_bundle("pi-2"), "pi-2")
    for device in DEVICES:
        lab.until_state(device, "idle")
    before = fingerprints(trusted_roots(lab.home.pki))
    training = lab.start_run(rounds=5000, min_devices=2, deadline_s=36_000.0, steps=500, batch_size=16)
    lab.until_round(training, 2, "closed")

    code, said = run(lab.home, "rotate", "ca")
    assert code == 0, said
    both = fingerprints(trusted_roots(lab.home.pki))
    assert (len(both), both[0]) == (2, before[0])
    until(all_trust(lab, both), "both trust both")
    # A bundle that runs where it was made gets the roots there, before its agent has renewed.
    until(lambda: not left_behind_of(lab) & set(DEVICES), "both have a certificate of the new authority")
    assert left_behind_of(lab) == {"pi-9", "stolen"}
    run(lab.home, "revoke", "stolen")
    assert run(lab.home, "rotate", "ca", "--finish", "--leave")[0] == 0
    after = fingerprints(trusted_roots(lab.home.pki))
    assert after == both[1:]
    until(all_trust(lab, after), "both forgot the old root")

    lab.until(lambda _: rounds_of(lab, training) > 5)
    lab.until_round(training, rounds_of(lab, training) + 2, "closed")
    rounds = [document for document in lab.documents.values() if "participants" in document]
    closed = [document for document in rounds if document.get("phase") == "closed"]
    assert {p["status"] for document in closed for p in document["participants"].values()} == {"accepted"}
    assert all(document["participants"].keys() == set(DEVICES) for document in closed)
    assert not [document for document in rounds if document.get("phase") == "abandoned"]

    for bundle in (stolen, forgotten):
        left = Peer(device_of(lab.home, bundle.name), bundle.name)
        assert "UNKNOWN_CA" in left.until(Refused).reason
        left.session.stop()
    lab.bundle("pi-3")
    newcomer = Peer(device_of(lab.home, "pi-3"), "pi-3")
    newcomer.until(Connected)
    newcomer.session.stop()
